// Slots that are changed together: finding them, and writing them back. One way for creation, transitions and redo.
#include "keymap_store.hpp"

#include "../shmem.hpp"
#include "../storage/sync_seam.hpp"
#include "../xlog.hpp"

extern "C" {
#include "storage/bufpage.h"
#include "storage/fd.h"
}

#include <cstring>

namespace seal::pg {

namespace {

PlacedPage* page_of(SlotPlaces* places, const DatabaseKeys& database, uint32 number)
{
	for (int i = 0; i < places->page_count; ++i)
		if (places->pages[i].number == number)
			return &places->pages[i];
	PlacedPage* page = &places->pages[places->page_count];
	*page = {number, false, InvalidXLogRecPtr, static_cast<uint8*>(palloc(kPageSize))};
	key_file_read_page(places->fd, places->path, number, page->bytes, database.file_id, ERROR);
	++places->page_count;
	return page;
}

bool taken_here(const SlotPlaces& places, uint32 slot) noexcept
{
	for (int i = 0; i < places.count; ++i)
		if (places.slots[i].slot == slot)
			return true;
	return false;
}

// The first free slot at or after `from` that is not meant for another of these relations; past the last page: the file must grow.
// A page that is looked at without success is not kept: there may be thousands.
uint32 find_free_slot(SlotPlaces* places, const DatabaseKeys& database, uint32 from)
{
	for (uint32 slot = from; slot < database.pages * kSlotsPerPage;) {
		const uint32 number = slot / kSlotsPerPage;
		const int before = places->page_count;
		PlacedPage* page = page_of(places, database, number);
		for (; slot / kSlotsPerPage == number; ++slot)
			if (key_page_slot(page->bytes, slot % kSlotsPerPage)->state == SlotState::free &&
			    !taken_here(*places, slot))
				return slot;
		if (places->page_count > before) {
			pfree(page->bytes);
			--places->page_count;
		}
	}
	return Max(from, database.pages * static_cast<uint32>(kSlotsPerPage));
}

void remember_shape(const DatabaseKeys& database) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	if (DatabaseKeys* entry = key_index_database_locked(database.database)) {
		entry->pages = database.pages;
		entry->free_hint = database.free_hint;
		memcpy(entry->file_id, database.file_id, sizeof entry->file_id);
	}
	LWLockRelease(seal_lock(Lock::keymap));
}

// The index may have been read from a file that was still being copied: never grow, cut or place by a size that is not the file's.
void check_size(DatabaseKeys* database, const SlotPlaces& places)
{
	if (key_file_pages(places.fd, places.path) == database->pages)
		return;
	keymap_forget_database(database->database);
	DatabaseKeys again;
	if (!keymap_load(database->database, database->default_tablespace, true, ERROR, &again) ||
	    key_file_pages(places.fd, places.path) != again.pages)
		ereport(ERROR,
		        (errcode(ERRCODE_DATA_CORRUPTED), errmsg("key file \"%s\" changes under the server", places.path)));
	*database = again;
}

// The slot that the relation has, if it does.
void find_existing(SlotPlaces* places, const DatabaseKeys& database, PlacedSlot* place)
{
	place->slot = keymap_locate(database, place->key, places->fd, places->path);
	if (place->slot == kNoSlot)
		return;
	place->page = page_of(places, database, place->slot / kSlotsPerPage);
	place->there = slot_is_for(*place->target(), place->key);
	if (place->there)
		return;
	LWLockAcquire(seal_lock(Lock::keymap),
	              LW_EXCLUSIVE); // a stale index entry: that slot is another relation's, or free
	key_index_remove_locked(place->key);
	LWLockRelease(seal_lock(Lock::keymap));
	place->slot = kNoSlot;
	place->page = nullptr;
}

// Free slots for the relations that have none; the file grows by as many pages as are missing, and some more.
void find_free(SlotPlaces* places, DatabaseKeys* database)
{
	uint32 first = kNoSlot, next = database->free_hint;
	for (int i = 0; i < places->count; ++i) {
		PlacedSlot& place = places->slots[i];
		if (place.slot != kNoSlot)
			continue;
		place.slot = find_free_slot(places, *database, next);
		next = place.slot + 1;
		first = Min(first, place.slot);
	}
	if (first == kNoSlot)
		return;
	const uint32 pages = (next - 1) / kSlotsPerPage + 1;
	if (pages > database->pages) {
		const bool is_new = database->pages == 0;
		if (is_new && !pg_strong_random(database->file_id, sizeof database->file_id))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
		const uint32 more = Max(pages - database->pages, Min(Max(database->pages / 8, 1u), 32u));
		key_file_grow(places->fd, places->path, database->pages, more, database->file_id);
		database->pages += more;
		if (is_new)
			keymap_remember_file(*database);
	}
	database->free_hint = first; // still free until it is written
	remember_shape(*database);
	for (int i = 0; i < places->count; ++i) {
		PlacedSlot& place = places->slots[i];
		if (!place.page)
			place.page = page_of(places, *database, place.slot / kSlotsPerPage);
		if (!place.there && place.target()->state != SlotState::free)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
			                errmsg("slot %u of key file \"%s\" is taken", place.slot, places->path)));
	}
}

} // namespace

void keymap_place_slots(DatabaseKeys* database, const SlotKey* keys, int count, SlotPlaces* places)
{
	key_file_path(database->database, database->default_tablespace, places->path);
	places->count = count;
	places->page_count = 0;
	places->slots = static_cast<PlacedSlot*>(palloc(sizeof(PlacedSlot) * count));
	places->pages =
		static_cast<PlacedPage*>(palloc(sizeof(PlacedPage) * (count + 1))); // one more while a free slot is looked for
	for (int i = 0; i < count; ++i)
		places->slots[i] = {keys[i], kNoSlot, false, nullptr};
	places->fd = key_file_open(places->path, true, true);
	if (places->fd < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open key file \"%s\": %m", places->path)));
	check_size(database, *places);
	for (int i = 0; i < count; ++i)
		find_existing(places, *database, &places->slots[i]);
	find_free(places, database);
}

void keymap_set_slot(PlacedSlot* place, const KeySlot& slot, XLogRecPtr lsn) noexcept
{
	KeySlot* target = place->target();
	*target = slot;
	target->record_lsn = lsn;
	target->dropped_lsn = 0;
	target->dropped_at = slot.state == SlotState::finished ? slot.dropped_at : 0;
	place->page->changed = true;
	place->page->lsn = Max(place->page->lsn, lsn);
}

void keymap_write_places_crit(const DatabaseKeys& database, const SlotPlaces& places)
{
	for (int i = 0; i < places.page_count; ++i) {
		PlacedPage& page = places.pages[i];
		if (!page.changed)
			continue;
		PageSetLSN(reinterpret_cast<Page>(page.bytes), page.lsn);
		if (!key_file_write_page(places.fd, page.number, page.bytes))
			ereport(PANIC, (errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", places.path)));
	}
	// After the write: a checkpoint that meets the request earlier would take it for done.
	const bool fails = crash_point("keymap.fsync"); // developer aid: as if the queue were full and the fsync failed
	const bool later = !fails && !crash_point("keymap.after_write") &&
	                   sync_key_file_later(database.database, database.default_tablespace);
	if (!later && (fails || pg_fsync(places.fd) != 0))
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not fsync key file \"%s\": %m", places.path)));
}

void keymap_publish_places(const DatabaseKeys& database, const SlotPlaces& places, uint64 max_version) noexcept
{
	LWLockAcquire(seal_lock(Lock::keymap), LW_EXCLUSIVE);
	DatabaseKeys* entry = key_index_database_locked(database.database);
	if (entry) {
		for (int i = 0; i < places.count; ++i) {
			const PlacedSlot& place = places.slots[i];
			if (!slot_is_for(*place.target(), place.key))
				continue; // took no effect
			if (!key_index_put_locked(place.key, place.slot))
				entry->overflow = true;
			if (entry->free_hint == place.slot)
				entry->free_hint = place.slot + 1;
		}
		entry->max_version = Max(entry->max_version, max_version);
	}
	LWLockRelease(seal_lock(Lock::keymap));
	for (int i = 0; i < places.count; ++i)
		if (places.slots[i].page->changed)
			key_index_bump_epoch(places.slots[i].key.rel_node);
}

void keymap_release_places(const DatabaseKeys& database, SlotPlaces* places, uint64 max_version) noexcept
{
	// With fsync off no checkpoint comes to note what the file holds.
	if (!enableFsync)
		keymap_remember(database, max_version);
	key_file_close(places->fd);
	for (int i = 0; i < places->page_count; ++i)
		pfree(places->pages[i].bytes);
	pfree(places->pages);
	pfree(places->slots);
}

} // namespace seal::pg
