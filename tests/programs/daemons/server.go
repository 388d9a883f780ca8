// SPDX-License-Identifier: Apache-2.0
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	http.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("hello\n", 2000))
	})
	http.HandleFunc("/digest", func(w http.ResponseWriter, r *http.Request) {
		digest := sha256.New()
		if _, err := io.Copy(digest, r.Body); err != nil {
			log.Print(err)
			return
		}
		fmt.Fprintf(w, "%x", digest.Sum(nil))
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
