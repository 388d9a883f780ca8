# SPDX-License-Identifier: Apache-2.0
# For unicorn and puma.
require "digest"
text = { "Content-Type" => "text/plain" }
run lambda { |env|
  case env["PATH_INFO"]
  when "/page" then [200, text, ["hello\n" * 2000]]
  when "/digest" then [200, text, [Digest::SHA256.hexdigest(env["rack.input"].read)]]
  else [404, text, ["not found\n"]]
  end
}
