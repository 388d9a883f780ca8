// SPDX-License-Identifier: Apache-2.0
// What a descriptor is: each role checks what it starts with and what it is sent, before it uses
// it. Runs in every role below the supervisor.

#ifndef TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_
#define TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_

namespace tlsbroker {

// The table that the supervisor starts each role with; all other numbers are closed.
//   0, 1  /dev/null
//   2     the log
//   3     the control socket; its other end was made by our parent, and nothing can be sent to it
//   4     the bell of the ring for reports to the supervisor (protocol/ring.h)
//   5     the memory of that ring; it is mapped and then closed
inline constexpr int kControlDescriptor = 3;
inline constexpr int kReportDescriptor = 4;
inline constexpr int kRingDescriptor = 5;
// False if the table is another one: then somebody else started this program. After true, the
// functions of report.h work.
bool TakeInitialDescriptors();

// One end of a connected pair of our channels (AF_UNIX, SOCK_SEQPACKET).
bool IsChannel(int fd);
// Any Unix socket of this type that does not listen.
bool IsUnixSocket(int fd, int type);
// One end of a pipe, open for that direction only; non-blocking.
bool IsPipeForReading(int fd);
bool IsPipeForWriting(int fd);
// A TCP socket that listens, or will listen.
bool IsTcpSocket(int fd);
// A file in memory that stays as it is (memfd_create(2)), open for reading and writing, since
// record locks need it.
bool IsSealedFile(int fd);
// A regular file, open for reading alone.
bool IsReadOnlyFile(int fd);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_DESCRIPTORS_H_
