#!/usr/bin/ruby
# SPDX-License-Identifier: Apache-2.0
# Uploads by Ruby's OpenSSL: see tests/README.md.
require "openssl"
require "socket"

host, port, size, version, trusted, count = ARGV
context = OpenSSL::SSL::SSLContext.new
versions = { "1.2" => OpenSSL::SSL::TLS1_2_VERSION, "1.3" => OpenSSL::SSL::TLS1_3_VERSION }
context.min_version = context.max_version = versions.fetch(version)
context.ca_file = trusted
context.verify_mode = OpenSSL::SSL::VERIFY_PEER
data = Array.new(size.to_i) { |i| i % 251 }.pack("C*")
count.to_i.times do
  connection = OpenSSL::SSL::SSLSocket.new(TCPSocket.new(host, port), context)
  connection.sync_close = true
  connection.connect
  connection.post_connection_check(host)
  connection.write(data)
  connection.close
end
