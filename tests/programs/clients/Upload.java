// SPDX-License-Identifier: Apache-2.0
// Uploads by Java's SSLSocket: see tests/README.md.

import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public class Upload {
  private static SSLContext trusting(String file) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream input = new FileInputStream(file)) {
      store.setCertificateEntry("trusted", CertificateFactory.getInstance("X.509").generateCertificate(input));
    }
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, factory.getTrustManagers(), null);
    return context;
  }

  public static void main(String[] arguments) throws Exception {
    byte[] data = new byte[Integer.parseInt(arguments[2])];
    for (int i = 0; i < data.length; i++) data[i] = (byte) (i % 251);
    SSLContext context = trusting(arguments[4]);
    for (int left = Integer.parseInt(arguments[5]); left > 0; left--) {
      SSLSocket connection =
          (SSLSocket) context.getSocketFactory().createSocket(arguments[0], Integer.parseInt(arguments[1]));
      SSLParameters parameters = connection.getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      parameters.setProtocols(new String[] {"TLSv" + arguments[3]});
      connection.setSSLParameters(parameters);
      connection.getOutputStream().write(data);
      connection.close();
    }
  }
}
