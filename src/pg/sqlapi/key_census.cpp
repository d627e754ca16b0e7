#include "key_census.hpp"

#include "../keymap/key_file.hpp"
#include "../keymap/keymap.hpp"

#include <algorithm>

namespace seal::pg {

namespace {

struct Databases {
	Oid* oids;
	Oid* tablespaces;
	int count, room;
};

void note_database(Oid database, Oid default_tablespace, void* arg)
{
	auto* found = static_cast<Databases*>(arg);
	if (found->count == found->room) {
		found->room *= 2;
		found->oids = static_cast<Oid*>(repalloc(found->oids, sizeof(Oid) * static_cast<Size>(found->room)));
		found->tablespaces = static_cast<Oid*>(repalloc(found->tablespaces, sizeof(Oid) * static_cast<Size>(found->room)));
	}
	found->oids[found->count] = database;
	found->tablespaces[found->count++] = default_tablespace;
}

Databases databases_with_keys()
{
	constexpr int kRoom = 64;
	Databases found = {static_cast<Oid*>(palloc(sizeof(Oid) * kRoom)), static_cast<Oid*>(palloc(sizeof(Oid) * kRoom)), 0, kRoom};
	key_file_walk(note_database, &found);
	return found;
}

struct Groups {
	DekGroup* groups;
	int count, room, last; // `last`: neighbours in a file are mostly alike
};

bool alike(const DekGroup& group, const KeySlot& slot)
{
	return group.keyring_id == slot.keyring_id && group.wrapped_by == slot.keyring_version && group.cipher == slot_cipher(slot) &&
	       group.mechanism == slot.mechanism;
}

void count_slot(const KeySlot& slot, void* arg)
{
	auto* all = static_cast<Groups*>(arg);
	if (slot_cipher(slot) == CipherId::none)
		return;
	int at = all->last;
	if (at >= all->count || !alike(all->groups[at], slot))
		for (at = 0; at < all->count && !alike(all->groups[at], slot); at++)
			;
	if (at == all->count) {
		if (all->count == all->room) {
			all->room *= 2;
			all->groups = static_cast<DekGroup*>(repalloc(all->groups, sizeof(DekGroup) * static_cast<Size>(all->room)));
		}
		all->groups[all->count++] = {slot.keyring_id, slot.keyring_version, slot_cipher(slot), slot.mechanism,
		                             slot.created_at, slot.created_at,      0};
	}
	all->last = at;
	DekGroup& group = all->groups[at];
	group.count++;
	group.oldest_at = std::min(group.oldest_at, slot.created_at);
	group.newest_at = std::max(group.newest_at, slot.created_at);
}

void count_file_tombstones(Oid database, Oid tablespace, uint8* page, TombstoneCount* out)
{
	char path[MAXPGPATH];
	key_file_path(database, tablespace, path);
	const int fd = key_file_open(path, false, false);
	if (fd < 0)
		return; // the database was dropped or moved meanwhile
	const uint32 pages = key_file_pages(fd, path);
	uint8 no_id[16] = {};
	for (uint32 number = 0; number < pages; number++) {
		if (!key_file_read_page(fd, path, number, page, no_id, WARNING))
			continue;
		for (std::size_t i = 0; i < kSlotsPerPage; i++) {
			const KeySlot* slot = key_page_slot(page, i);
			if (slot->state == SlotState::free || slot->dropped_lsn == 0)
				continue;
			out->waiting++;
			if (slot->dropped_at != 0 && (out->oldest_at == 0 || slot->dropped_at < out->oldest_at))
				out->oldest_at = slot->dropped_at;
		}
		CHECK_FOR_INTERRUPTS();
	}
	key_file_close(fd);
}

} // namespace

int count_deks(DekGroup** out)
{
	constexpr int kRoom = 64;
	Groups all = {static_cast<DekGroup*>(palloc(sizeof(DekGroup) * kRoom)), 0, kRoom, 0};
	const Databases found = databases_with_keys();
	for (int i = 0; i < found.count; i++)
		keymap_visit(found.oids[i], count_slot, &all);
	*out = all.groups;
	return all.count;
}

TombstoneCount count_tombstones()
{
	TombstoneCount count = {0, 0};
	auto* const page = static_cast<uint8*>(palloc(kPageSize));
	const Databases found = databases_with_keys();
	for (int i = 0; i < found.count; i++)
		count_file_tombstones(found.oids[i], found.tablespaces[i], page, &count);
	pfree(page);
	return count;
}

} // namespace seal::pg
