// The data directory, its settings, and the provider.
#include "control_file.hpp"
#include "doctor.hpp"
#include "file_text.hpp"
#include "subprocess.hpp"

#include "seal/provider.hpp"

#include <filesystem>

namespace seal::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kSettings[] = "settings";

bool list_contains(const std::string& list, const std::string& wanted)
{
	std::string word;
	for (std::size_t i = 0; i <= list.size(); ++i) {
		const char c = i < list.size() ? list[i] : ',';
		if (c == ',') {
			if (fs::path(word).stem() == wanted)
				return true;
			word.clear();
		} else if (c != ' ' && c != '"' && c != '\'' && c != '\n') {
			word += c;
		}
	}
	return false;
}

} // namespace

// The server itself says what a setting is: it knows about included files, ALTER SYSTEM and defaults.
std::string Doctor::setting(const char* name, bool& known)
{
	std::vector<std::string> argv = {binary_, "-C", name, "-D", options_.data_directory};
	for (std::size_t i = 1; i < server_options_.size(); ++i) // -c config_file=... of packages that keep it elsewhere
		if (server_options_[i - 1] == "-c" && server_options_[i].rfind("config_file=", 0) == 0)
			argv.insert(argv.end(), {"-c", server_options_[i]});
	Result<ProgramOutput> run = run_program(argv);
	known = run && run->exit_code == 0;
	std::string value = known ? run->output : "";
	while (!value.empty() && value.back() == '\n')
		value.pop_back();
	return value;
}

void Doctor::check_data_directory()
{
	constexpr char kArea[] = "data directory";
	if (options_.data_directory.empty())
		return;
	Result<ControlFile> control = read_control_file(options_.data_directory);
	if (!control) {
		problem(kArea, control.error().message, "Give the data directory of a PostgreSQL 15 server with -D.");
		return;
	}
	if (control->checksums)
		ok(kArea, "data checksums are on");
	else
		warn(kArea, "data checksums are off: an altered page shows only as garbage",
		     "Enable them while the server is stopped: pg_checksums --enable.");
}

void Doctor::check_settings()
{
	if (options_.data_directory.empty() || binary_.empty())
		return;
	bool known = false;
	const std::string preload = setting("shared_preload_libraries", known);
	if (!known) {
		warn(kSettings, "the server's settings cannot be read",
		     "Run as the server's operating system user; check that postgresql.conf is in the data directory.");
		return;
	}
	if (list_contains(preload, "pg_seal"))
		ok(kSettings, "shared_preload_libraries has pg_seal");
	else
		problem(kSettings, "shared_preload_libraries is '" + preload + "', without pg_seal",
		        "Add pg_seal to shared_preload_libraries and restart the server.");
	const std::string shared_memory = setting("dynamic_shared_memory_type", known);
	if (known && shared_memory == "mmap")
		problem(kSettings, "dynamic_shared_memory_type is mmap: tuples of parallel queries lie in files in clear",
		        "Set it to posix (the default) or sysv.");
	else if (known)
		ok(kSettings, "dynamic_shared_memory_type is " + shared_memory);
	if (list_contains(preload, "pg_stat_statements"))
		warn(kSettings,
		     "pg_stat_statements keeps the texts of statements, with what is written in them, in files in clear "
		     "(pg_stat_tmp, pg_stat)",
		     "Do without it where statements carry secrets, or set pg_stat_statements.save = off and put pg_stat_tmp "
		     "into memory (tmpfs).");
	const std::string full_pages = setting("full_page_writes", known);
	if (known && full_pages != "on")
		warn(kSettings, "full_page_writes is off: torn pages cannot be repaired, sealed or not", "Switch it on.");
}

void Doctor::check_provider()
{
	constexpr char kArea[] = "provider";
	if (options_.provider_config_file.empty())
		return;
	Result<std::string> text = read_text_file(options_.provider_config_file);
	if (!text) {
		problem(kArea, text.error().message, "Give the file with the provider's configuration (JSON).");
		return;
	}
	Result<std::unique_ptr<Provider>> provider = open_provider("pkcs11", *text);
	if (!provider) {
		problem(kArea, provider.error().message, provider.error().hint);
		return;
	}
	for (const EndpointStatus& endpoint : (*provider)->check()) {
		const std::string text_line = endpoint.endpoint + ": " + endpoint.detail;
		if (!endpoint.ok)
			problem(kArea, text_line, "See \"What each error means\" in the providers' documentation.");
		else if (endpoint.detail.find("warning:") != std::string::npos)
			warn(kArea, text_line, "Put it right before it matters.");
		else
			ok(kArea, text_line);
	}
}

const std::vector<DoctorFinding>& Doctor::examine()
{
	find_binary();
	check_binary();
	check_extension();
	check_memory_limit();
	check_core_dumps();
	check_swap();
	check_data_directory();
	check_settings();
	check_wal();
	check_provider();
	return findings_;
}

} // namespace seal::cli
