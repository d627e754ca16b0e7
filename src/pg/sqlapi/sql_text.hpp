// Text between SQL and the core. The registry and the audit log are UTF-8 on every node, whatever a database's encoding is.
//
// All may throw PgError (a conversion that does not exist, no memory).
#pragma once

#include "../pg.hpp"

#include <string>

namespace seal::pg {

std::string utf8_from_server(const char* text);    // of the database's encoding; unchanged where there is no database
char* server_from_utf8(const std::string& text);   // palloc'd in the current memory context

// An ERROR with any SQLSTATE from a C++ frame, thrown as PgError. Texts are UTF-8; `hint` may be null.
[[noreturn]] void fail(int sqlstate, const std::string& message, const char* hint = nullptr);
// NOTICE or WARNING.
void notify(int level, const std::string& message, const std::string& hint = {});

std::string lsn_text(std::uint64_t lsn); // "0/3000000"

} // namespace seal::pg
