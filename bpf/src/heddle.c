// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The programs of a node. Read types.h and maps.h for the tables, decide.h for
 * what happens to a connection, and the rest for where it is asked. */
#include "kernel.h"
#include "types.h"
#include "maps.h"

#include "addr.h"
#include "copy.h"
#include "decide.h"
#include "count.h"
#include "share.h"

#include "hook.h"
#include "policy.h"
#include "connect.h"
#include "udp.h"
#include "peername.h"
#include "sockopt.h"
#include "ends.h"
#include "bypass.h"
#include "sockops.h"
#include "release.h"
#include "packet.h"
#include "segment.h"
#include "fast.h"
#include "tc.h"
#include "why.h"

char _license[] SEC("license") = "Dual BSD/GPL";
