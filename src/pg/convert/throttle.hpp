// Keeps a worker to pg_seal.rotation_rate megabytes of pages per second, on average over about a second. The setting may change while
// the worker runs. Sleeps on the latch, in small pieces, holding no lock.
#pragma once

#include "../pg.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace seal::pg {

class Throttle {
public:
	// How many pages to take in one piece: so few that a piece and its pause last about a twentieth of a second.
	int piece() const noexcept;
	// After a piece of `pages`: sleeps as long as the rate demands. Reloads the configuration when it has changed.
	void pause(int pages);

private:
	TimestampTz due_ = 0; // when the pages so far should have been done
};

} // namespace seal::pg
