// SPDX-License-Identifier: Apache-2.0
// Uploads by Go's crypto/tls: see tests/README.md.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net"
	"os"
	"strconv"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func main() {
	host, port, version := os.Args[1], os.Args[2], map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[os.Args[4]]
	data := make([]byte, number(os.Args[3]))
	for i := range data {
		data[i] = byte(i % 251)
	}
	trusted, err := os.ReadFile(os.Args[5])
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	config := &tls.Config{RootCAs: roots, MinVersion: version, MaxVersion: version}
	for left := number(os.Args[6]); left > 0; left-- {
		connection, err := tls.Dial("tcp", net.JoinHostPort(host, port), config)
		must(err)
		_, err = connection.Write(data)
		must(err)
		must(connection.Close())
	}
}
