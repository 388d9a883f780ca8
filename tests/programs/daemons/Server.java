// SPDX-License-Identifier: Apache-2.0
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.security.MessageDigest;
import java.util.concurrent.Executors;

public class Server {
  public static void main(String[] arguments) throws Exception {
    var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0]));
    var server = HttpServer.create(address, 0);
    server.setExecutor(Executors.newCachedThreadPool());
    server.createContext("/page", exchange -> answer(exchange, "hello\n".repeat(2000)));
    server.createContext("/digest", exchange -> answer(exchange, digest(exchange.getRequestBody())));
    server.start();
  }

  static String digest(InputStream body) throws IOException {
    try {
      var digest = MessageDigest.getInstance("SHA-256");
      digest.update(body.readAllBytes());
      return String.format("%064x", new BigInteger(1, digest.digest()));
    } catch (java.security.NoSuchAlgorithmException error) {
      throw new IOException(error);
    }
  }

  static void answer(HttpExchange exchange, String text) throws IOException {
    var bytes = text.getBytes();
    exchange.sendResponseHeaders(200, bytes.length);
    try (var body = exchange.getResponseBody()) {
      body.write(bytes);
    }
  }
}
