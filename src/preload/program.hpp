// Which program this process is, and so what the library does in it.
//
// Only the stock tools that read or write WAL are served. In any other program (a child of such a tool: pg_ctl, psql, the server itself) the
// library stands aside: it takes no keys, changes no call, and takes itself and the keys out of the way of whatever that program runs. The server
// seals by itself, and nothing may be sealed twice.
#pragma once

namespace seal::preload {

enum class Role {
	aside,   // not one of the tools: nothing is passed on to what it runs
	pass_on, // pg_verifybackup and pg_upgrade, which run pg_waldump and pg_resetwal, and the shell through which they do
	segments, // pg_waldump, pg_receivewal, pg_basebackup, pg_resetwal: every WAL segment, read and written
	rewind, // pg_rewind: reads the target's WAL; copies the source's files as they are; leaves the target's audit log alone
};

Role program_role() noexcept; // by the executable's own name, not by what it was called as

} // namespace seal::preload
