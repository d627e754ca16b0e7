// The operation that runs now, in shared memory: what the worker does and what is asked of it. What must survive a restart is in the
// registry (seal/registry.hpp, OperationDef); this is the live part: counters, the place of work, requests.
//
// One operation runs at a time. The launcher (operation_launcher.cpp) owns `id` and starts a worker in one database after another; the
// worker (convert/) alone changes counters, place and outcome. Everything is atomic or guarded by `mutex` (held for copies only).
#pragma once

#include "../pg.hpp"

extern "C" {
#include "port/atomics.h"
#include "storage/spin.h"
}

namespace seal::pg {

enum class WorkerOutcome : uint32 {
	running = 0,
	done,    // nothing is left to do in this database
	stopped, // asked to stop (pause, cancel, vacate, shutdown): what was begun is finished, more is left
	waiting, // nothing to do but to wait: see OperationText::waiting_for
	failed,  // see OperationText::error
};

enum class StopRequest : uint32 {
	none = 0,
	finish, // cancel: finish the relations that are begun, then stop
	leave,  // pause: stop at once; relations in transition stay so until the operation goes on
};

inline constexpr int kVacateSlots = 64;

// Texts are UTF-8, whatever the database's encoding is.
struct OperationText { // copied under `mutex`
	Oid database;              // where the worker is; InvalidOid: between databases
	char relation[NAMEDATALEN * 2 + 8]; // schema.name, empty between relations
	char phase[32];            // "counting", "sealing", "unsealing", "checkpoint", "verifying", "waiting"
	char waiting_for[128];     // empty, or what the operation waits for
	char error[256];           // the first error of this operation's run, empty when none
};

struct OperationShared {
	slock_t mutex;
	OperationText text;
	pg_atomic_uint64 id;             // the operation that runs; 0: none
	pg_atomic_uint64 pages_done;     // over all databases
	pg_atomic_uint64 pages_total;    // grows with relations, and as databases are counted
	pg_atomic_uint64 relations_done; // relations flipped to their new form
	pg_atomic_uint64 wal_bytes;      // of page images and key records
	pg_atomic_uint32 failed_relations;
	pg_atomic_uint32 stop_requested; // StopRequest, by the launcher
	pg_atomic_uint32 vacate[kVacateSlots]; // databases that the worker shall leave, for DDL that needs them empty; 0: a free slot
	pg_atomic_uint32 outcome;        // WorkerOutcome of the worker that ran last
	pg_atomic_uint64 stray_operation, stray_xid; // the worker's: files that belong to no relation it can see, noticed by that operation before that transaction
	pg_atomic_uint64 work_found;     // relations the worker that ran last began or finished: 0 means that its database was in order
};

OperationShared* operation_shared() noexcept;
Size operation_shmem_size();
void operation_shmem_init(void* memory);

// What the worker asks between pages. DDL that wants the database for itself (vacate) counts as `leave`.
StopRequest operation_stop_request(Oid my_database) noexcept;
// Changes the text under the mutex. `relation`, `what`, `message`: in the encoding of the caller's database.
void operation_set_place(Oid database, const char* relation, const char* phase) noexcept;
void operation_set_waiting(const char* what) noexcept;
void operation_set_error(const char* message) noexcept; // the first one stays

// What the launcher hands to a worker in bgw_extra; main argument: the database's OID (InvalidOid never: shared relations are the work of one chosen database).
struct ConvertTask {
	uint64 operation;
	Oid database, tablespace;
	bool begun_only;       // the operation was cancelled: finish the relations that are in transition, begin none
};

} // namespace seal::pg
