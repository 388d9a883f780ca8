// Asio's own functions, compiled once: its headers only declare them (ASIO_SEPARATE_COMPILATION).
// Linked by the processes with an event loop, supervisor and handshaker.

#include <asio/impl/src.hpp>
