// Changing the registry from SQL.
//
// KeyChange serialises the functions that change providers, keyrings and policies across the cluster: two sessions never make
// rival KEKs, and what a function checked before a slow provider call is still so after it. It is a heavyweight lock (waits can be
// cancelled, deadlocks are found), held for the call, not for the transaction.
//
// change_registry() alone takes the registry's LWLock, reads the newest registry, asks `make` for the change and commits it.
// Never call a provider inside `make`.
#pragma once

#include "../guard.hpp"
#include "../registry/registry_store.hpp"
#include "../shmem.hpp"

#include "seal/registry.hpp"

extern "C" {
#include "storage/lock.h"
}

#include <optional>
#include <string>

namespace seal::pg {

// Refuses (PgError) in recovery, in a read-only transaction and in a parallel worker; `function` is named in the message.
void refuse_where_nothing_changes(const char* function);

class KeyChange {
public:
	explicit KeyChange(const char* function); // refuse_where_nothing_changes() first
	KeyChange(const KeyChange&) = delete;
	KeyChange& operator=(const KeyChange&) = delete;
	~KeyChange();

private:
	LOCKTAG tag_;
};

class ExclusiveLwLock {
public:
	explicit ExclusiveLwLock(Lock which) : lock_(seal_lock(which)) { LWLockAcquire(lock_, LW_EXCLUSIVE); }
	ExclusiveLwLock(const ExclusiveLwLock&) = delete;
	ExclusiveLwLock& operator=(const ExclusiveLwLock&) = delete;
	~ExclusiveLwLock() { LWLockRelease(lock_); }

private:
	LWLock* lock_;
};

// Under Lock::registry.
template <class F> void change_registry_locked(F&& make)
{
	const Registry now = registry_read();
	registry_commit(make(now));
}

template <class F> void change_registry(F&& make)
{
	const ExclusiveLwLock lock(Lock::registry);
	change_registry_locked(std::forward<F>(make));
}

std::uint64_t next_operation_id(); // from the registry's counter

// What a name stands for; absent, SealError (not_found) with a hint.
std::optional<ProviderDef> find_provider(const Registry& registry, const std::string& name);
std::optional<KeyringDef> find_keyring(const Registry& registry, const std::string& name);
ProviderDef need_provider(const Registry& registry, const std::string& name);
KeyringDef need_keyring(const Registry& registry, const std::string& name);

std::int64_t now_microseconds(); // since 1970
std::string current_role();      // UTF-8

} // namespace seal::pg
