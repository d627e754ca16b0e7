// Would a raw copy of a database's default directory into a tablespace meet that tablespace's policy?
#pragma once

#include "../pg.hpp"

namespace seal::pg {

// ERROR (0A000) with the statement's way out in the hint when it would not. `database` is the source; `hint` a whole sentence.
void check_raw_copy(Oid database, const char* database_name, Oid destination, const char* hint);

} // namespace seal::pg
