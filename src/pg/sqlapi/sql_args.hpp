// Arguments of an SQL function as plain C++ values. The functions are not STRICT: a NULL where a value is needed is an error that
// names the argument, not a call that silently does nothing.
//
// All throw SealError (invalid_argument) or PgError.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "fmgr.h"
}

#include <cstdint>
#include <string>

namespace seal::pg {

std::string text_arg(FunctionCallInfo fcinfo, int index, const char* argument);         // UTF-8
std::string name_arg(FunctionCallInfo fcinfo, int index, const char* argument);         // as text_arg, 1 to 63 printable bytes
std::string jsonb_object_arg(FunctionCallInfo fcinfo, int index, const char* argument); // UTF-8 text of a jsonb object
bool bool_arg(FunctionCallInfo fcinfo, int index, const char* argument);
std::int64_t bigint_arg(FunctionCallInfo fcinfo, int index, const char* argument);
const char* catalog_name_arg(FunctionCallInfo fcinfo, int index, const char* argument); // type name, in the server's encoding
Oid oid_arg(FunctionCallInfo fcinfo, int index, const char* argument);

} // namespace seal::pg
