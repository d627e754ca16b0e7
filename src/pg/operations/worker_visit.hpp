// One worker in one database, from its start to its end; and the pace of the operation meanwhile.
#pragma once

#include "operation_board.hpp"

#include <functional>
#include <string>

namespace seal::pg {

enum class Visit {
	done,
	waiting, // for somebody: come back soon
	stopped, // asked to leave: come back when wanted again
	failed,
	vacated, // DDL needs the database empty: not begun
	no_slot, // max_worker_processes are in use
	died,    // it ended without saying how
};

// Starts the worker and waits for its end. `tick` is called about once a second and when the launcher is woken, and says what to ask of the
// worker. Also stops it when this process shall end. Afterwards OperationShared::work_found tells what it found.
Visit visit_database(const ConvertTask& task, const std::function<StopRequest()>& tick);

} // namespace seal::pg
