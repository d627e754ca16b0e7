#include "tool_arguments.hpp"

namespace seal::cli {

namespace {

class WordReader {
public:
	WordReader(const std::vector<ToolOption>& with_value, const std::vector<std::string>& words)
		: table_(with_value), words_(words)
	{}

	ToolWords read()
	{
		for (at_ = 0; at_ < words_.size(); ++at_) {
			const std::string& word = words_[at_];
			if (word == "--") {
				result_.operands.insert(result_.operands.end(), words_.begin() + static_cast<std::ptrdiff_t>(at_) + 1,
				                        words_.end());
				break;
			}
			if (word.rfind("--", 0) == 0)
				read_long(word.substr(2));
			else if (word.size() > 1 && word[0] == '-')
				read_letters(word.substr(1));
			else
				result_.operands.push_back(word);
		}
		return std::move(result_);
	}

private:
	// The exact name, else the only one that begins so.
	const ToolOption* find(const std::string& name) const
	{
		const ToolOption* found = nullptr;
		int candidates = 0;
		for (const ToolOption& option : table_) {
			if (name == option.name)
				return &option;
			if (std::string(option.name).rfind(name, 0) == 0) {
				found = &option;
				++candidates;
			}
		}
		return candidates == 1 ? found : nullptr;
	}

	void put(const ToolOption& option, const std::string& value)
	{
		std::string& now = result_.options[option.name];
		now = option.gathers && !now.empty() ? now + " " + value : value;
	}

	void take_next(const ToolOption& option)
	{
		if (at_ + 1 < words_.size())
			put(option, words_[++at_]);
	}

	void read_long(const std::string& text)
	{
		const std::size_t equals = text.find('=');
		const std::string name = text.substr(0, equals);
		const ToolOption* option = find(name);
		if (!option) {
			result_.options[name] = equals == std::string::npos ? "" : text.substr(equals + 1);
			result_.asks_about_tool = result_.asks_about_tool || name == "help" || name == "version";
		} else if (equals != std::string::npos) {
			put(*option, text.substr(equals + 1));
		} else if (option->optional) {
			result_.options[option->name] = "";
		} else {
			take_next(*option);
		}
	}

	void read_letters(const std::string& letters)
	{
		for (std::size_t i = 0; i < letters.size(); ++i) {
			const ToolOption* option = nullptr;
			for (const ToolOption& candidate : table_)
				if (candidate.letter == letters[i])
					option = &candidate;
			if (!option || option->optional) {
				result_.options[option ? option->name : std::string(1, letters[i])] = "";
				result_.asks_about_tool = result_.asks_about_tool || letters[i] == 'V' || letters[i] == '?';
				continue;
			}
			if (i + 1 < letters.size())
				put(*option, letters.substr(i + 1));
			else
				take_next(*option);
			return;
		}
	}

	const std::vector<ToolOption>& table_;
	const std::vector<std::string>& words_;
	std::size_t at_ = 0;
	ToolWords result_;
};

} // namespace

ToolWords read_tool_words(const std::vector<ToolOption>& with_value, const std::vector<std::string>& words)
{
	return WordReader(with_value, words).read();
}

} // namespace seal::cli
