// The inside of the vault's mapping: what lies where, and how an entry is published to readers that take no lock.
// For vault*.cpp only.
//
// Publication. Every entry starts with a word: state in the low two bits, a change counter above. A writer (holding the
// vault's spinlock) moves the word to `writing`, stores the fields, then stores the word with the new state (release). A
// reader loads the word (acquire), copies the fields, and loads the word again: unchanged means the copy is one writer's.
// Fields are relaxed atomics, so a reader that races reads old or new words, never undefined ones, and then notices.
//
// Tables are open addressing with linear probing. A forgotten entry keeps its place in the probe chain and may be taken
// for another key. A writer that died leaves `writing`; vault_reset_locks() turns that into `forgotten`, never into `free`,
// which would cut the chain.
#pragma once

#include "vault.hpp"

extern "C" {
#include "storage/s_lock.h"
#include "storage/spin.h"
}

#include <atomic>
#include <type_traits>

namespace seal::pg::vault {

static_assert(std::atomic<uint32>::is_always_lock_free && std::atomic<uint64>::is_always_lock_free);
static_assert(kKeyringKeySize == 32 && kDekSeedSize == 32 && kTempSeedSize == 32);

enum State : uint32 { free_entry = 0, writing = 1, ready = 2, forgotten = 3 };
constexpr uint32 kStateMask = 3;

class Word {
public:
	uint32 acquire() const noexcept { return word_.load(std::memory_order_acquire); }
	State state() const noexcept { return static_cast<State>(acquire() & kStateMask); }
	// Is what was copied since acquire() returned `seen` whole?
	bool still(uint32 seen) const noexcept
	{
		std::atomic_thread_fence(std::memory_order_acquire);
		return word_.load(std::memory_order_relaxed) == seen;
	}
	void begin() noexcept
	{
		word_.store(next(writing), std::memory_order_relaxed);
		std::atomic_thread_fence(std::memory_order_release);
	}
	void finish(State state) noexcept { word_.store(next(state), std::memory_order_release); }

private:
	uint32 next(State state) const noexcept
	{
		return ((word_.load(std::memory_order_relaxed) & ~kStateMask) + (kStateMask + 1)) | state;
	}
	std::atomic<uint32> word_;
};

template <int N> class Words { // N 64-bit words, each atomic
public:
	void store(const void* bytes) noexcept
	{
		for (int i = 0; i < N; i++) {
			uint64 word;
			memcpy(&word, static_cast<const uint8*>(bytes) + 8 * i, 8);
			words_[i].store(word, std::memory_order_relaxed);
		}
	}
	void load(void* bytes) const noexcept
	{
		for (int i = 0; i < N; i++) {
			const uint64 word = words_[i].load(std::memory_order_relaxed);
			memcpy(static_cast<uint8*>(bytes) + 8 * i, &word, 8);
		}
	}
	bool equal(const void* bytes) const noexcept // for digests; never called on a secret
	{
		for (int i = 0; i < N; i++) {
			uint64 word;
			memcpy(&word, static_cast<const uint8*>(bytes) + 8 * i, 8);
			if (words_[i].load(std::memory_order_relaxed) != word)
				return false;
		}
		return true;
	}
	void wipe() noexcept // atomic stores to shared memory: the compiler may not drop them
	{
		for (int i = 0; i < N; i++)
			words_[i].store(0, std::memory_order_relaxed);
	}

private:
	std::atomic<uint64> words_[N];
};

using Field = std::atomic<uint32>;
inline uint32 get(const Field& field) noexcept { return field.load(std::memory_order_relaxed); }
inline void set(Field& field, uint32 value) noexcept { field.store(value, std::memory_order_relaxed); }

struct KeyringEntry {
	Word word;
	Field keyring, version, unused;
	Words<4> key;
};
static_assert(sizeof(KeyringEntry) == 48);

inline constexpr int kDigestSize = 24; // prefix of SHA-256(keyring id || wrapped bytes)
struct DekEntry {
	Word word;
	Field keyring;
	Field pass;       // of the last vault_dek_mark()
	Field entered_at; // seconds since 1970
	Words<3> digest;
	Words<4> seed;
};
static_assert(sizeof(DekEntry) == 72);

// Only touched under the spinlock, but for the word and the keyring, which vault_pool_count() reads.
struct PoolEntry {
	Word word;
	Field keyring;
	uint32 kek_version;
	WrapMechanism mechanism;
	uint8 wrapped_size;
	uint8 wrapped[kWrappedSeedMax];
	uint8 seed[kDekSeedSize];
	uint8 digest[kDigestSize];
	uint8 unused[2]; // zero
};
static_assert(sizeof(PoolEntry) == 152);

struct ThrowawayEntry {
	Word word;
	Field database, tablespace, rel_node;
	Words<4> seed;
};
static_assert(sizeof(ThrowawayEntry) == 48);

struct WalKeyEntry {
	Word word;
	Field generation, cipher, unused;
	Words<8> key;
};
static_assert(sizeof(WalKeyEntry) == 80 && kWalKeySize == 64);

inline constexpr uint32 kKeyringCapacity = 2 * kMaxKeyringKeys;
inline constexpr uint32 kPoolCapacity = 1024;
inline constexpr uint32 kMaxThrowaways = 4096;
inline constexpr uint32 kThrowawayCapacity = 2 * kMaxThrowaways;

struct Vault {
	slock_t mutex; // every writer; readers take none. Held for some microseconds, no system call inside
	bool locked_in_memory;
	uint32 dek_limit, dek_capacity;                  // capacity: a power of two, at least twice the limit
	Field keyring_count, dek_count, throwaway_count; // entries in state ready
	Field dek_pass;
	KeyringEntry keyrings[kKeyringCapacity];
	PoolEntry pool[kPoolCapacity];
	ThrowawayEntry throwaways[kThrowawayCapacity];
	Field wal_key_count;
	WalKeyEntry wal_keys[kWalGenerations]; // by mark
	Words<4> temp_seed; // changes only while no child exists
	Field temp_seed_number;
	alignas(64) TempChanges temp_changes[kTempChangeCounters];
	alignas(64) uint8 agent_region[kVaultAgentRegionSize];
	alignas(64) DekEntry deks[1]; // dek_capacity of them: the last member
};

extern Vault* vault; // nullptr until vault_create(); the same address in every child

class SpinGuard {
public:
	SpinGuard() noexcept { SpinLockAcquire(&vault->mutex); }
	~SpinGuard() { SpinLockRelease(&vault->mutex); }
	SpinGuard(const SpinGuard&) = delete;
};

inline uint32 mix(uint32 a, uint32 b, uint32 c) noexcept
{
	uint64 h = (uint64{a} << 32 | b) * UINT64CONST(0x9E3779B97F4A7C15);
	h = (h ^ (h >> 29) ^ c) * UINT64CONST(0xBF58476D1CE4E5B9);
	return static_cast<uint32>(h >> 32);
}

// Walks the probe chain of `hash`. `match` says whether a ready entry is the one. Returns it, or nullptr; `*place` (if asked
// for, by a writer) is then where it could be entered, or nullptr when every place is taken.
template <class Entry, class Match>
Entry* probe(Entry* table, uint32 capacity, uint32 hash, Match match, std::type_identity_t<Entry>** place) noexcept
{
	Entry* reusable = nullptr;
	for (uint32 i = 0; i < capacity; i++) {
		Entry& entry = table[(hash + i) & (capacity - 1)];
		const State state = entry.word.state();
		if (state == free_entry) {
			if (!reusable)
				reusable = &entry;
			break;
		}
		if (state == forgotten && !reusable)
			reusable = &entry;
		if (state == ready && match(entry))
			return &entry;
	}
	if (place)
		*place = reusable;
	return nullptr;
}

void forget_deks_of_keyring(uint32 keyring) noexcept; // vault_deks.cpp
void reset_deks() noexcept;
void reset_throwaways() noexcept; // vault_throwaway.cpp
void reset_wal_keys() noexcept;   // vault_wal_keys.cpp

} // namespace seal::pg::vault
