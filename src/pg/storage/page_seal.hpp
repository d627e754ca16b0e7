// One page between buffer and disk: which form it takes, its marker, its checksums, and what is refused.
#pragma once

#include "../cache/key_cache.hpp"
#include "../pg.hpp"

extern "C" {
#include "common/relpath.h"
#include "storage/block.h"
#include "storage/relfilenode.h"
}

namespace seal::pg {

// Which of a relation's two forms a page takes on disk. Only a relation in transition has two.
enum class PageForm { current, old };
// The form of a page of a relation in transition, by its LSN (PROTOCOLS 2). Without one there is nothing that a torn write could spoil: pages
// of unlogged relations, whose files a crash resets, and initialised pages of a main fork with nothing in them, under which zeroes lie on disk.
PageForm page_form(const CachedKey& key, const uint8* plain, ForkNumber fork) noexcept;

// Writes the form of `plain` that belongs on disk to `sealed`. False: the plain page itself belongs there (all-zero page, or the form is
// plain). ERROR when the key is missing. Allocates nothing.
bool page_seal(CachedKey& key, PageForm form, const uint8* plain, uint8* sealed, ForkNumber fork, BlockNumber block);

// Opens what md read, in place. Afterwards the page is exactly what PostgreSQL expects, or one that its own page check
// (PageIsVerifiedExtended) refuses: with a wrong checksum where the sealed checksum was wrong, with an invalid flag where a
// plain page lies in a sealed-only relation. A sealed page whose key is missing is an ERROR, never handed on: readers that zero
// damaged pages would destroy it. In recovery it is handed on untouched to the startup process alone.
void page_open(CachedKey* key, const RelFileNodeBackend& rnode, uint8* page, ForkNumber fork, BlockNumber block);

// A page that our code sealed, as far as its header tells: marker, a known cipher, and a header PostgreSQL would accept.
bool page_looks_sealed(const uint8* page) noexcept;

} // namespace seal::pg
