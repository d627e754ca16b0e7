#include "scan.hpp"

#include "progress_bar.hpp"
#include "registry_source.hpp"

#include "seal/relation_state.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <poll.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace seal::cli {

namespace fs = std::filesystem;

PageCounts& PageCounts::operator+=(const PageCounts& other)
{
	sealed += other.sealed;
	plain += other.plain;
	zero += other.zero;
	damaged += other.damaged;
	keyless += other.keyless;
	return *this;
}

PageCounts RelationScan::totals() const
{
	PageCounts sum;
	for (const auto& [fork, counts] : forks)
		sum += counts;
	return sum;
}

const char* RelationScan::state() const
{
	if (temporary)
		return "temporary";
	const PageCounts sum = totals();
	const RelationKey record = key.value_or(RelationKey{});
	return relation_state_name(record.state, record.form, record.old_form, sum.sealed > 0, sum.plain > 0);
}

namespace {

constexpr std::size_t kChunk = 128 * kPageSize;

// OIDs of the tablespaces that the user named; empty: all.
Result<std::set<std::uint32_t>> chosen_tablespaces(const ScanOptions& options)
{
	std::set<std::uint32_t> chosen;
	Result<std::vector<TablespaceLocation>> known = list_tablespaces(options.data_directory);
	if (!known)
		return known.error();
	for (const std::string& name : options.tablespaces) {
		std::set<std::uint32_t> matches;
		for (const TablespaceLocation& tablespace : *known) {
			const bool standard = (tablespace.oid == kDefaultTablespace && name == "pg_default") ||
			                      (tablespace.oid == kGlobalTablespace && name == "pg_global");
			if (standard || name == std::to_string(tablespace.oid) || name == tablespace.location ||
			    (!tablespace.location.empty() && name == fs::path(tablespace.location).filename()))
				matches.insert(tablespace.oid);
		}
		if (matches.size() != 1) {
			std::string list = "pg_default, pg_global";
			for (const TablespaceLocation& tablespace : *known)
				if (!tablespace.location.empty())
					list += ", " + std::to_string(tablespace.oid) + " at " + tablespace.location;
			return Error(ErrorCode::not_found,
			             "tablespace '" + name + "' is " + (matches.empty() ? "not there" : "ambiguous"),
			             "Without a server a tablespace is known by its OID or its location: " + list + ".");
		}
		chosen.insert(*matches.begin());
	}
	return chosen;
}

class Scanner {
public:
	Scanner(const ScanOptions& options, const ControlFile& control, KeyFiles& keys, ScanResult& result,
	        ProgressBar& bar)
		: options_(options), control_(control), keys_(keys), result_(result), bar_(bar),
		  buffer_(new std::uint8_t[kChunk])
	{}

	Status scan(const RelationFile& file)
	{
		const int fd = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			if (errno == ENOENT && options_.online)
				return ok_status(); // dropped meanwhile
			return failed("open", file);
		}
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		const Status status = scan_open(fd, file);
		close(fd);
		return status;
	}

private:
	static Error failed(const char* what, const RelationFile& file)
	{
		return {ErrorCode::io_error,
		        std::string("could not ") + what + " \"" + file.path + "\": " + std::strerror(errno)};
	}

	RelationScan& relation_of(const RelationFile& file)
	{
		if (!result_.relations.empty()) { // files of a relation come one after another
			RelationScan& last = result_.relations.back();
			if (last.database == file.database && last.tablespace == file.tablespace &&
			    last.rel_node == file.rel_node && last.temporary == file.temporary)
				return last;
		}
		RelationScan relation;
		relation.database = file.database;
		relation.tablespace = file.tablespace;
		relation.rel_node = file.rel_node;
		relation.temporary = file.temporary;
		result_.relations.push_back(std::move(relation));
		take_key(file, result_.relations.back());
		return result_.relations.back();
	}

	void take_key(const RelationFile& file, RelationScan& relation)
	{
		if (!file.temporary)
			relation.key = keys_.find(file);
		relation.has_key = relation.key && relation.key->has_key();
		relation.plain_expected = options_.tablespaces.empty() && (!relation.key || relation.key->expects_plain());
	}

	bool as_expected(const RelationScan& relation, const PageVerdict& verdict) const
	{
		if (verdict.kind == PageKind::plain)
			return relation.plain_expected || options_.plain_ok;
		if (verdict.kind == PageKind::sealed)
			return relation.temporary || (relation.key && relation.key->covers(verdict.mark));
		return true;
	}

	Status scan_open(int fd, const RelationFile& file)
	{
		RelationScan& relation = relation_of(file);
		PageCounts& counts = relation.forks[file.fork];
		const std::uint32_t first_block = file.segment * control_.segment_blocks;
		std::uint64_t offset = 0;
		for (;;) {
			std::size_t filled = 0;
			while (filled < kChunk) {
				const ssize_t n =
					pread(fd, buffer_.get() + filled, kChunk - filled, static_cast<off_t>(offset + filled));
				if (n < 0 && errno == EINTR)
					continue;
				if (n < 0)
					return failed("read", file);
				if (n == 0)
					break;
				filled += static_cast<std::size_t>(n);
			}
			for (std::size_t at = 0; at < filled; at += kPageSize) {
				const std::uint64_t block = (offset + at) / kPageSize;
				if (filled - at < kPageSize) {
					if (!options_.online) { // online the file may be growing
						++counts.damaged;
						note(file, block, "short page: " + std::to_string(filled - at) + " bytes");
					}
					break;
				}
				if (Status status = count(fd, file, relation, counts, buffer_.get() + at, block, first_block); !status)
					return status;
			}
			offset += filled;
			bar_.advance(filled);
			if (filled < kChunk)
				return ok_status();
		}
	}

	Status count(int fd, const RelationFile& file, RelationScan& relation, PageCounts& counts, std::uint8_t* page,
	             std::uint64_t block, std::uint32_t first_block)
	{
		const auto number = static_cast<std::uint32_t>(first_block + block);
		PageVerdict verdict = judge_page(page, number, control_.checksums);
		for (int attempt = 0; options_.online && verdict.kind == PageKind::damaged && attempt < 5; ++attempt) {
			poll(nullptr, 0, 20); // the server may be writing it: a torn view heals
			if (pread(fd, page, kPageSize, static_cast<off_t>(block * kPageSize)) == static_cast<ssize_t>(kPageSize))
				verdict = judge_page(page, number, control_.checksums);
		}
		bool expected = as_expected(relation, verdict);
		if (!expected &&
		    options_.online) { // its record may have changed, or come into being, since the key file was read
			if (Status status = keys_.refresh(file.database); !status)
				return status;
			take_key(file, relation);
			expected = as_expected(relation, verdict) || is_dropped(fd);
		}
		switch (verdict.kind) {
		case PageKind::zero: ++counts.zero; break;
		case PageKind::plain:
			++counts.plain;
			if (!expected)
				++result_.unexpected_plain;
			break;
		case PageKind::sealed:
			++counts.sealed;
			if (!expected) {
				++counts.keyless;
				note(file, block,
				     relation.key ? "sealed under a generation that its key record does not name"
				                  : "sealed, but no key record names its relation");
			}
			break;
		case PageKind::damaged:
			++counts.damaged;
			note(file, block, verdict.reason);
			break;
		}
		return ok_status();
	}

	static bool is_dropped(int fd)
	{
		struct stat info {};
		return fstat(fd, &info) == 0 && info.st_nlink == 0;
	}

	void note(const RelationFile& file, std::uint64_t block, std::string what)
	{
		if (++result_.finding_count <= kMostFindings)
			result_.findings.push_back({file.path, block, std::move(what)});
	}

	const ScanOptions& options_;
	const ControlFile& control_;
	KeyFiles& keys_;
	ScanResult& result_;
	ProgressBar& bar_;
	std::unique_ptr<std::uint8_t[]> buffer_;
};

// A cluster without a registry has no WAL keys; one whose registry cannot be read says so.
Status scan_wal(const ScanOptions& options, ScanResult& result)
{
	Result<Registry> registry = registry_of_directory(options.data_directory);
	if (!registry && registry.error().code != ErrorCode::not_found)
		return registry.error();
	const WalKeysDef keys = registry ? registry->wal_keys() : WalKeysDef{};
	std::vector<std::string> directories;
	if (const std::string own = options.data_directory + "/pg_wal"; options.tablespaces.empty() && fs::exists(own))
		directories.push_back(own);
	directories.insert(directories.end(), options.wal_directories.begin(), options.wal_directories.end());
	for (const std::string& directory : directories) {
		Result<WalDirectoryScan> scan = scan_wal_directory(directory, keys, result.online);
		if (!scan)
			return scan.error();
		for (const auto& [segment, generation] : scan->unknown) {
			++result.finding_count;
			result.findings.push_back({directory + "/" + segment, 0,
			                           "sealed with generation " + std::to_string(generation) +
			                               " of the WAL key, which the registry does not name"});
		}
		result.wal.push_back(std::move(*scan));
	}
	return ok_status();
}

} // namespace

Result<ScanResult> scan_data_directory(const ScanOptions& options)
{
	Result<ControlFile> control = read_control_file(options.data_directory);
	if (!control)
		return control.error();
	const bool running = server_is_running(options.data_directory);
	if (running && !options.online)
		return Error(ErrorCode::invalid_argument, "the server of this data directory is running",
		             "Stop it first, or give --online: the figures are then a snapshot of files in motion.");
	Result<std::vector<DatabaseDirectory>> directories =
		list_databases(options.data_directory, control->catalog_version);
	if (!directories)
		return directories.error();
	Result<KeyFiles> keys = KeyFiles::read(*directories, control->checksums, options.online);
	if (!keys)
		return keys.error();
	Result<std::set<std::uint32_t>> chosen = chosen_tablespaces(options);
	if (!chosen)
		return chosen.error();

	ScanResult result;
	result.checksums = control->checksums;
	result.clean = control->clean;
	result.online = running;
	result.key_slots = keys->size();
	for (const DamagedKeyPage& page : keys->damaged()) {
		++result.finding_count;
		result.findings.push_back({page.path, page.block, std::string("key file: ") + page.reason});
	}
	std::vector<RelationFile> files;
	std::uint64_t bytes = 0;
	for (const DatabaseDirectory& directory : *directories) {
		if (!chosen->empty() && !chosen->count(directory.tablespace))
			continue;
		Result<std::vector<RelationFile>> some = list_relation_files(directory);
		if (!some) {
			if (options.online && !fs::exists(directory.path))
				continue;
			return some.error();
		}
		for (RelationFile& file : *some) {
			std::error_code ignored;
			const std::uintmax_t size = fs::file_size(file.path, ignored);
			bytes += ignored ? 0 : size;
			files.push_back(std::move(file));
		}
	}
	ProgressBar bar(bytes, !options.quiet && !options.json);
	Scanner scanner(options, *control, *keys, result, bar);
	for (const RelationFile& file : files)
		if (Status status = scanner.scan(file); !status)
			return status.error();
	for (const RelationScan& relation : result.relations)
		result.totals += relation.totals();
	if (Status status = scan_wal(options, result); !status)
		return status.error();
	return result;
}

} // namespace seal::cli
