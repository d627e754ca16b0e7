// WAL and its archives: is anything in clear? And do the token or its PIN lie beside what they guard?
#include "doctor.hpp"
#include "file_text.hpp"
#include "registry_source.hpp"
#include "wal_scan.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <sstream>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kWal[] = "WAL";

bool lies_in(const std::string& path, const std::string& directory)
{
	std::error_code error;
	const std::string inner = fs::weakly_canonical(path, error).string() + "/",
					  outer = fs::weakly_canonical(directory, error).string() + "/";
	return !path.empty() && inner.rfind(outer, 0) == 0;
}

// directories.tokendir of a SoftHSM configuration file.
std::string token_directory(const std::string& configuration)
{
	Result<std::string> text = read_text_file(configuration);
	if (!text)
		return "";
	std::istringstream lines(*text);
	for (std::string line; std::getline(lines, line);) {
		std::istringstream words(line);
		std::string name, equals, value;
		if (words >> name >> equals >> value && name == "directories.tokendir" && equals == "=")
			return value;
	}
	return "";
}

std::string member(const nlohmann::json& object, const char* name)
{
	const auto found = object.is_object() ? object.find(name) : object.end();
	return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

} // namespace

void Doctor::check_segments(const std::string& directory, const WalKeysDef& keys, bool archive)
{
	Result<WalDirectoryScan> scan = scan_wal_directory(directory, keys, true);
	if (!scan) {
		problem(kWal, scan.error().message, "Run as the operating system user that owns the directory.");
		return;
	}
	const std::string count = std::to_string(scan->segments_in_clear) + " of " + std::to_string(scan->segments) +
	                          " segments in \"" + directory + "\"";
	if (scan->segments_in_clear > 0)
		warn(kWal, count + " hold WAL in clear",
		     archive ? "Once WAL is sealed take a new base backup, then remove archived segments older than it "
		               "(pg_archivecleanup)."
		             : "The server removes or overwrites them in time; seal WAL with seal.enable_wal_encryption() if "
		               "it is not.");
	else if (scan->left_plain > 0)
		warn(kWal,
		     "files in \"" + directory + "\" that are kept for reuse hold " + std::to_string(scan->left_plain) +
		         " pages of older WAL in clear",
		     "They are overwritten in time; wal_recycle = off lets the server make new files instead.");
	else if (archive && scan->segments + scan->not_examined == 0)
		warn(kWal, "no WAL segment was found in \"" + directory + "\"", "Give the directory that holds the segments.");
	else if (scan->segments > 0 || !archive)
		ok(kWal, "no segment in \"" + directory + "\" holds WAL in clear");
	if (scan->not_examined > 0)
		warn(kWal,
		     std::to_string(scan->not_examined) + " segments in \"" + directory +
		         "\" are packed or no WAL and were not examined",
		     "Unpack them elsewhere and give that directory to pgseal scan --wal.");
	if (!scan->unknown.empty())
		problem(kWal,
		        "segment \"" + scan->unknown.begin()->first + "\" in \"" + directory +
		            "\" is sealed with a WAL key that this registry does not name",
		        "The registry of the cluster that wrote it has the key; without it that WAL cannot be replayed.");
}

void Doctor::check_provider_paths(const std::string& name, const std::string& config)
{
	const nlohmann::json parsed = nlohmann::json::parse(config, nullptr, false);
	const auto environment = parsed.is_object() ? parsed.find("environment") : parsed.end();
	const std::string tokens =
		environment != parsed.end() ? token_directory(member(*environment, "SOFTHSM2_CONF")) : "";
	if (lies_in(tokens, options_.data_directory))
		problem("provider",
		        "the token of provider '" + name + "' lies in the data directory (\"" + tokens +
		            "\"): whoever has a copy of it has the keys",
		        "Move the token directory to where no backup of the database goes.");
	const std::string pin = member(parsed, "pin_file");
	if (lies_in(pin, options_.data_directory))
		problem("provider", "the PIN file of provider '" + name + "' lies in the data directory (\"" + pin + "\")",
		        "Move it out of there.");
}

void Doctor::check_token_places(const Registry& registry)
{
	for (const ProviderDef& provider : registry.providers())
		check_provider_paths(provider.name, provider.config_json);
}

void Doctor::check_wal()
{
	WalKeysDef keys;
	if (!options_.data_directory.empty()) {
		Result<Registry> registry = registry_of_directory(options_.data_directory);
		if (registry) {
			check_token_places(*registry);
			keys = registry->wal_keys();
			if (keys.active != 0)
				ok(kWal, "WAL is sealed with generation " + std::to_string(keys.active) + " of its key");
			else if (!registry->keyrings().empty())
				warn(kWal, "WAL is written in clear: it holds what the sealed relations hold",
				     "Call seal.enable_wal_encryption().");
			check_segments(options_.data_directory + "/pg_wal", keys, false);
		} else if (registry.error().code != ErrorCode::not_found) {
			problem(kWal, registry.error().message, registry.error().hint);
		}
	}
	for (const std::string& archive : options_.archives)
		check_segments(archive, keys, true);
}

} // namespace seal::cli
