// SPDX-License-Identifier: Apache-2.0
// All messages between the supervisor and its children, for those who look into any of them. See
// message.h.

#ifndef TLSBROKER_PROTOCOL_SUPERVISION_H_
#define TLSBROKER_PROTOCOL_SUPERVISION_H_

#include "protocol/counters.h"
#include "protocol/facts.h"
#include "protocol/logger_messages.h"
#include "protocol/message.h"
#include "protocol/modes.h"
#include "protocol/porter_messages.h"
#include "protocol/role_messages.h"
#include "protocol/service_messages.h"
#include "protocol/ticket_keys.h"

#endif  // TLSBROKER_PROTOCOL_SUPERVISION_H_
