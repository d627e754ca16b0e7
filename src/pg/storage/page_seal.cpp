#include "page_seal.hpp"

#include "../convert/disk_form.hpp"
#include "../vault/vault.hpp"
#include "../xlog.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogutils.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "storage/smgr.h"
}

#include <cstddef>
#include <cstring>

namespace seal::pg {

static_assert(BLCKSZ == kPageSize && SizeOfPageHeaderData == kPageHeaderSize);
static_assert(offsetof(PageHeaderData, pd_checksum) == kPageChecksumOffset);
static_assert(offsetof(PageHeaderData, pd_flags) == kPageFlagsOffset);
static_assert(offsetof(PageHeaderData, pd_upper) == kPageUpperOffset);
static_assert(PD_VALID_FLAG_BITS == kFlagsPlainMask);

namespace {

inline PageHeader header_of(uint8* page) noexcept { return reinterpret_cast<PageHeader>(page); }
inline const PageHeaderData* header_of(const uint8* page) noexcept { return reinterpret_cast<const PageHeaderData*>(page); }

inline ForkClass fork_class(ForkNumber fork) noexcept
{
	switch (fork) {
	case FSM_FORKNUM: return ForkClass::fsm;
	case VISIBILITYMAP_FORKNUM: return ForkClass::vm;
	default: return ForkClass::main; // main and init
	}
}

inline XLogRecPtr page_lsn(const uint8* page) noexcept { return PageXLogRecPtrGet(header_of(page)->pd_lsn); }

bool body_is_zero(const uint8* page) noexcept
{
	const uint8* const body = page + kPageHeaderSize;
	return body[0] == 0 && memcmp(body, body + 1, kPageSize - kPageHeaderSize - 1) == 0;
}

// A cipher refusing on a ready context is a failure of the library: nothing sensible was written.
[[noreturn]] void raise_cipher_failure(const RelFileNodeBackend& rnode, ForkNumber fork, BlockNumber block)
{
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
	                errmsg("the cryptographic library failed on block %u of relation %s", block, relpath(rnode, fork))));
	pg_unreachable();
}

[[noreturn]] void raise_missing_key(const RelFileNodeBackend& rnode, ForkNumber fork, BlockNumber block)
{
	ereport(ERROR,
	        (errcode(ERRCODE_DATA_CORRUPTED),
	         errmsg("the key of sealed block %u of relation %s is missing", block, relpath(rnode, fork)),
	         errdetail("The key file of database %u holds no record of the key that sealed this page.", rnode.node.dbNode),
	         errhint("Restore the file \"%s\" of that database from the same backup as its data.", kKeyFileName)));
	pg_unreachable();
}

// Leaves a page that PostgreSQL's own check refuses whether or not checksums are on.
void refuse_plain_page(const RelFileNodeBackend& rnode, uint8* page, ForkNumber fork, BlockNumber block)
{
	header_of(page)->pd_flags |= kSealedMarker;
	ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
	                  errmsg("block %u of relation %s is not sealed, but the relation is: the page is refused", block,
	                         relpath(rnode, fork)),
	                  errhint("The file was altered outside the server, or a write was torn. Restore it from a backup.")));
}

// In recovery, a relation whose transition is finished may have plain pages on this node's disk that redo has yet to replace: on a
// standby, or where a base backup copied the file before the key file. That ends with the first restart point behind the record.
bool plain_page_may_remain(const CachedKey& key)
{
	if (key.state != SlotState::finished || key.old_form.cipher != CipherId::none || !RecoveryInProgress())
		return false;
	return completed_redo_start() <= key.record_lsn;
}

// A page whose first write was torn, so that sectors of it are still the zeroes of a new page: if those sectors hold nothing but
// zeroes in the page that was being written, it is whole. Where a stock server's checksum comes out right, so does this.
bool nothing_was_lost(PageCipher& cipher, uint8 generation, const uint8* plain, uint16 checksum, ForkNumber fork, BlockNumber block)
{
	alignas(8) static uint8 again[kPageSize];
	return cipher.seal(plain, again, block, fork_class(fork), generation) && page_checksum(again, block) == checksum;
}

} // namespace

bool page_looks_sealed(const uint8* page) noexcept
{
	const PageHeaderData* header = header_of(page);
	if (!flags_sealed(header->pd_flags))
		return false;
	const CipherId cipher = flags_mark(header->pd_flags).cipher;
	return (cipher == CipherId::aes_256_xts || cipher == CipherId::aes_128_xts || cipher == CipherId::throwaway) &&
	       header->pd_pagesize_version == (BLCKSZ | PG_PAGE_LAYOUT_VERSION) && header->pd_lower <= header->pd_upper &&
	       header->pd_upper <= header->pd_special && header->pd_special <= BLCKSZ;
}

PageForm page_form(const CachedKey& key, const uint8* plain, ForkNumber fork) noexcept
{
	if (!key.in_transition())
		return PageForm::current;
	if (key.state == SlotState::announced)
		return PageForm::old;
	if (page_lsn(plain) >= key.switch_lsn || (key.unlogged && fork != INIT_FORKNUM))
		return PageForm::current;
	// Maps are emptied in place without a WAL record: what lies under an empty page of theirs may be old and full.
	return fork == MAIN_FORKNUM && page_lsn(plain) == InvalidXLogRecPtr && body_is_zero(plain) ? PageForm::current : PageForm::old;
}

bool page_seal(CachedKey& key, PageForm page_form, const uint8* plain, uint8* sealed, ForkNumber fork, BlockNumber block)
{
	if (page_is_zero(plain))
		return false;
	if (unlikely(key.kind == CachedKey::missing || key.kind == CachedKey::throwaway)) {
		if (!RecoveryInProgress())
			raise_missing_key(key.rnode, fork, block);
		// The relation may be one whose transition from plain to sealed comes later in the WAL (a backup copied the key file before it began, the
		// relation while it ran). A throwaway key is lost in a restart, so no page of it takes one that lies plain: the later record will find it.
		if (disk_page_is_plain(key.rnode.node, fork, block))
			return false;
		if (key.kind == CachedKey::missing)
			key_cache_take_throwaway(&key);
	}

	const bool old_form = page_form == PageForm::old;
	const KeyForm& form = old_form ? key.old_form : key.form;
	PageCipher& cipher = old_form ? key.old_cipher : key.cipher;
	if (form.cipher == CipherId::none)
		return false;

	if (unlikely(!cipher.seal(plain, sealed, block, fork_class(fork), form.generation)))
		raise_cipher_failure(key.rnode, fork, block);
	// An initialised page with nothing in it is in no WAL record: whatever part of its first write arrives must leave a valid page. So its
	// sectors stay the zeroes that they are, behind a sealed header; header and head unit lie in one sector.
	if (unlikely(page_lsn(plain) == InvalidXLogRecPtr) && body_is_zero(plain))
		memset(sealed + kSectorSize, 0, kPageSize - kSectorSize);
	PageHeader header = header_of(sealed);
	if (unlikely(key.kind == CachedKey::throwaway))
		header->pd_flags = flags_seal(header->pd_flags, {CipherId::throwaway, form.generation});
	if (DataChecksumsEnabled())
		header->pd_checksum = page_checksum(sealed, block);
	return true;
}

void page_open(CachedKey* key, const RelFileNodeBackend& rnode, uint8* page, ForkNumber fork, BlockNumber block)
{
	PageHeader header = header_of(page);

	if (!flags_sealed(header->pd_flags)) {
		const bool sealed_only = key->kind == CachedKey::sealed && !key->in_transition() && key->form.cipher != CipherId::none;
		if (unlikely(sealed_only && !page_is_zero(page) && !plain_page_may_remain(*key)))
			refuse_plain_page(rnode, page, fork, block);
		else if (unlikely(key->kind == CachedKey::missing && !InRecovery && !page_is_zero(page)))
			raise_missing_key(rnode, fork, block);
		return;
	}
	if (unlikely(!page_looks_sealed(page)))
		return; // a damaged page: its flags alone make the server's check refuse it

	const PageMark mark = flags_mark(header->pd_flags);
	const auto is = [&](const KeyForm& form) { return form.cipher == mark.cipher && form.generation == mark.generation; };
	PageCipher* cipher = nullptr;
	if (key->kind == CachedKey::sealed && is(key->form))
		cipher = &key->cipher;
	else if (key->kind == CachedKey::sealed && key->state != SlotState::single && is(key->old_form))
		cipher = &key->old_cipher;
	else if (mark.cipher == CipherId::throwaway && RecoveryInProgress())
		cipher = key_cache_throwaway_cipher(rnode.node);
	if (unlikely(!cipher)) {
		if (InRecovery)
			return; // redo: full-page images put the page right, or the server's own check stops it
		raise_missing_key(rnode, fork, block);
	}

	const uint16 checksum_on_disk = header->pd_checksum;
	bool intact = !DataChecksumsEnabled() || checksum_on_disk == page_checksum(page, block);
	const bool torn_when_new = unlikely(!intact) && unwritten_sectors(page) != 0;
	if (unlikely(!cipher->open(page, block, fork_class(fork))))
		raise_cipher_failure(rnode, fork, block);
	if (DataChecksumsEnabled()) {
		if (unlikely(torn_when_new))
			intact = nothing_was_lost(*cipher, mark.generation, page, checksum_on_disk, fork, block);
		// A wrong sealed checksum becomes a wrong plain one: the server reports and counts it, and ignore_checksum_failure works.
		const uint16 checksum = page_checksum(page, block);
		header->pd_checksum = intact ? checksum : static_cast<uint16>(checksum + 1);
	}
}

} // namespace seal::pg
