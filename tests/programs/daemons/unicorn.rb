# SPDX-License-Identifier: Apache-2.0
listen "127.0.0.1:{port}"
worker_processes 2
