// The result of a scan as text for people and as JSON for programs.
#include "progress_bar.hpp"
#include "scan.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace seal::cli {

namespace {

using nlohmann::json;

constexpr std::size_t kShownFindings = 20;

std::string tablespace_text(std::uint32_t oid)
{
	return oid == kDefaultTablespace ? "pg_default" : oid == kGlobalTablespace ? "pg_global" : std::to_string(oid);
}

json counts_json(const PageCounts& c)
{
	return {{"sealed", c.sealed}, {"plain", c.plain}, {"zero", c.zero}, {"damaged", c.damaged}, {"keyless", c.keyless}};
}

std::string forks_text(const RelationScan& relation)
{
	std::string text;
	for (const auto& [fork, counts] : relation.forks)
		text += (text.empty() ? "" : " ") + fork + ":" + std::to_string(counts.total());
	return text;
}

using Number = unsigned long long;

} // namespace

namespace {

// Plain, as it should be: in the totals only.
bool is_ordinary(const RelationScan& relation, const PageCounts& sum)
{
	const bool sealed_by_record =
		relation.key && (relation.key->form.cipher != CipherId::none || slot_in_transition(relation.key->state));
	return !sealed_by_record && sum.sealed == 0 && sum.damaged == 0 && (relation.plain_expected || sum.plain == 0);
}

bool print_relations(const ScanResult& result)
{
	bool any = false;
	for (const RelationScan& relation : result.relations) {
		const PageCounts sum = relation.totals();
		if (is_ordinary(relation, sum))
			continue;
		if (!any)
			std::printf("%10s %-12s %12s %-13s %10s %10s %8s %8s  %s\n", "database", "tablespace", "relfilenode",
			            "state", "sealed", "plain", "zero", "damaged", "pages by fork");
		any = true;
		std::printf("%10u %-12s %12u %-13s %10llu %10llu %8llu %8llu  %s\n", relation.database,
		            tablespace_text(relation.tablespace).c_str(), relation.rel_node, relation.state(),
		            static_cast<Number>(sum.sealed), static_cast<Number>(sum.plain), static_cast<Number>(sum.zero),
		            static_cast<Number>(sum.damaged), forks_text(relation).c_str());
	}
	return any;
}

void print_tablespaces(const ScanResult& result)
{
	struct Sum {
		std::uint64_t relations = 0;
		PageCounts pages;
	};
	std::map<std::uint32_t, Sum> tablespaces;
	for (const RelationScan& relation : result.relations) {
		Sum& sum = tablespaces[relation.tablespace];
		++sum.relations;
		sum.pages += relation.totals();
	}
	std::printf("%-12s %10s %10s %10s %8s %8s\n", "tablespace", "relations", "sealed", "plain", "zero", "damaged");
	for (const auto& [oid, sum] : tablespaces)
		std::printf("%-12s %10llu %10llu %10llu %8llu %8llu\n", tablespace_text(oid).c_str(),
		            static_cast<Number>(sum.relations), static_cast<Number>(sum.pages.sealed),
		            static_cast<Number>(sum.pages.plain), static_cast<Number>(sum.pages.zero),
		            static_cast<Number>(sum.pages.damaged));
}

void print_wal(const WalDirectoryScan& wal)
{
	std::printf("%s: %llu segments, %llu pages sealed", wal.path.c_str(), static_cast<Number>(wal.segments),
	            static_cast<Number>(wal.sealed_total()));
	for (const auto& [generation, pages] : wal.sealed)
		std::printf("%s%llu of generation %u", generation == wal.sealed.begin()->first ? " (" : ", ",
		            static_cast<Number>(pages), generation);
	std::printf("%s, %llu in clear, %llu empty\n", wal.sealed.empty() ? "" : ")", static_cast<Number>(wal.plain),
	            static_cast<Number>(wal.empty));
	if (wal.segments + wal.not_examined == 0)
		std::printf("warning: no WAL segment was found in \"%s\"\n", wal.path.c_str());
	if (wal.segments_in_clear)
		std::printf("note: %llu segments there hold WAL in clear\n", static_cast<Number>(wal.segments_in_clear));
	if (wal.left_plain)
		std::printf(
			"note: %llu pages in clear there are left of earlier segments, in files that the server will write over\n",
			static_cast<Number>(wal.left_plain));
	if (wal.not_examined)
		std::printf("note: %llu segments there are packed, or no WAL: not examined\n",
		            static_cast<Number>(wal.not_examined));
}

json wal_json(const WalDirectoryScan& wal)
{
	json sealed = json::object();
	for (const auto& [generation, pages] : wal.sealed)
		sealed[std::to_string(generation)] = pages;
	return {{"directory", wal.path},
	        {"segments", wal.segments},
	        {"segments_in_clear", wal.segments_in_clear},
	        {"not_examined", wal.not_examined},
	        {"sealed_by_generation", std::move(sealed)},
	        {"plain", wal.plain},
	        {"empty", wal.empty},
	        {"zero", wal.zero},
	        {"left_over_sealed", wal.left_sealed},
	        {"left_over_plain", wal.left_plain},
	        {"unknown_generations", wal.unknown.size()}};
}

} // namespace

void print_scan_text(const ScanResult& result, bool summary)
{
	if (!summary && print_relations(result))
		std::printf("\n");
	print_tablespaces(result);
	const PageCounts& t = result.totals;
	std::printf(
		"\n%zu relations, %llu pages (%s): %llu sealed, %llu plain, %llu zero, %llu damaged; %llu key records\n",
		result.relations.size(), static_cast<Number>(t.total()), size_text(t.total() * kPageSize).c_str(),
		static_cast<Number>(t.sealed), static_cast<Number>(t.plain), static_cast<Number>(t.zero),
		static_cast<Number>(t.damaged), static_cast<Number>(result.key_slots));
	for (const WalDirectoryScan& wal : result.wal)
		print_wal(wal);
	for (std::size_t i = 0; i < result.findings.size() && i < kShownFindings; ++i)
		std::printf("problem: %s, block %llu: %s\n", result.findings[i].path.c_str(),
		            static_cast<Number>(result.findings[i].block), result.findings[i].what.c_str());
	if (result.finding_count > kShownFindings)
		std::printf("problem: %llu more of this kind (--json lists them)\n",
		            static_cast<Number>(result.finding_count - kShownFindings));
	if (result.unexpected_plain)
		std::printf("problem: %llu plain pages where sealed ones are expected\n",
		            static_cast<Number>(result.unexpected_plain));
	if (!result.checksums)
		std::printf("note: data checksums are off: altered pages cannot be told from intact ones\n");
	if (result.online)
		std::printf(
			"note: the server is running: the figures are a snapshot, what it holds in memory is not in them\n");
	else if (!result.clean)
		std::printf("note: the server did not shut down cleanly: torn pages that recovery repairs may count as "
		            "damaged, and in a "
		            "backup plain pages that it replaces\n");
}

void print_scan_json(const ScanResult& result)
{
	json relations = json::array(), findings = json::array();
	for (const RelationScan& relation : result.relations) {
		json forks = json::object();
		for (const auto& [fork, counts] : relation.forks)
			forks[fork] = counts_json(counts);
		relations.push_back({{"database", relation.database},
		                     {"tablespace", relation.tablespace},
		                     {"relfilenode", relation.rel_node},
		                     {"temporary", relation.temporary},
		                     {"has_key", relation.has_key},
		                     {"state", relation.state()},
		                     {"forks", std::move(forks)}});
	}
	for (const Finding& finding : result.findings)
		findings.push_back({{"path", finding.path}, {"block", finding.block}, {"problem", finding.what}});
	json wal = json::array();
	for (const WalDirectoryScan& directory : result.wal)
		wal.push_back(wal_json(directory));
	const json document = {{"relations", std::move(relations)},
	                       {"wal", std::move(wal)},
	                       {"totals", counts_json(result.totals)},
	                       {"key_records", result.key_slots},
	                       {"problems", std::move(findings)},
	                       {"problem_count", result.finding_count},
	                       {"unexpected_plain", result.unexpected_plain},
	                       {"data_checksums", result.checksums},
	                       {"clean_shutdown", result.clean},
	                       {"online", result.online},
	                       {"as_expected", result.as_expected()}};
	std::printf("%s\n", document.dump(1, '\t', false, json::error_handler_t::replace).c_str());
}

} // namespace seal::cli
