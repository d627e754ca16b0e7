// pgseal doctor's checks. Each looks at one thing and adds findings; none changes anything.
#pragma once

#include "seal/registry.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace seal::cli {

struct ElfImage;

enum class Level { ok, warning, problem };

struct DoctorFinding {
	std::string
		area; // "binary", "extension", "memory", "core dumps", "swap", "settings", "data directory", "WAL", "provider"
	Level level;
	std::string text;
	std::string remedy; // what to do; empty for ok
};

struct DoctorOptions {
	std::string binary, data_directory, provider_config_file;
	std::vector<std::string> archives; // directories with archived WAL
	bool json = false;
};

class Doctor {
public:
	explicit Doctor(DoctorOptions options) : options_(std::move(options)) {}
	const std::vector<DoctorFinding>& examine();

private:
	void find_binary();
	void check_binary(); // doctor_binary.cpp
	void check_table(const ElfImage& image, const char* what, const std::vector<std::string>& table);
	void check_imports(const ElfImage& image);
	void check_extension();
	void check_memory_limit(); // doctor_system.cpp; so the next two
	void check_core_dumps();
	void check_swap();
	void check_data_directory(); // doctor_settings.cpp
	void check_settings();
	void check_provider();
	void check_wal(); // doctor_wal.cpp; so the next three
	void check_segments(const std::string& directory, const WalKeysDef& keys, bool archive);
	void check_token_places(const Registry& registry);
	void check_provider_paths(const std::string& name, const std::string& config);

	void ok(const char* area, std::string text) { findings_.push_back({area, Level::ok, std::move(text), ""}); }
	void warn(const char* area, std::string text, std::string remedy)
	{
		findings_.push_back({area, Level::warning, std::move(text), std::move(remedy)});
	}
	void problem(const char* area, std::string text, std::string remedy)
	{
		findings_.push_back({area, Level::problem, std::move(text), std::move(remedy)});
	}
	std::string setting(const char* name, bool& known);

	DoctorOptions options_;
	std::string binary_;                      // the server's executable
	std::vector<std::string> server_options_; // of the last start, from postmaster.opts
	std::vector<DoctorFinding> findings_;
};

// The tables of function pointers that pg_seal redirects, entry by entry (an empty name is a null pointer), of a major version; empty: it is
// not supported.
std::vector<std::string> storage_manager_table(int major);
std::vector<std::string> sync_table(int major);

} // namespace seal::cli
