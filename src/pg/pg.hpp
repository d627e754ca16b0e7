// The one way to include PostgreSQL's headers from C++: C linkage, and the macros that clash with C++ put away.
#pragma once

extern "C" {
#include "postgres.h"

#include "miscadmin.h"
}

// PostgreSQL 15 leaves this empty on Linux; we compile with hidden visibility.
#undef PGDLLEXPORT
#define PGDLLEXPORT __attribute__((visibility("default")))
