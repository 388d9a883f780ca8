// What a descriptor is: each role checks what it starts with and what it is sent, before it uses
// it. Runs in keyholder and handshaker.

#ifndef TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_
#define TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_

namespace tlsbroker {

// The table that the supervisor starts keyholder and handshakers with; all other numbers are
// closed.
//   0, 1  /dev/null
//   2     the log
//   3     the control channel; its other end was made by our parent
inline constexpr int kControlDescriptor = 3;
// False if the table is another one: then somebody else started this program.
bool TakeInitialDescriptors();

// One end of a connected pair of our channels (AF_UNIX, SOCK_SEQPACKET).
bool IsChannel(int fd);
// A TCP socket that listens.
bool IsTcpListener(int fd);
// A regular file, open for reading alone.
bool IsReadOnlyFile(int fd);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_
