# shellcheck shell=bash
# Completion of pointsman-agent for bash.
_pointsman_agent() {
	local word=${COMP_WORDS[COMP_CWORD]} words
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--config | --record | --out | --key)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	esac
	case ${COMP_WORDS[1]-} in
	keygen) words='--config --out --force' ;;
	pubkey) words='--config --key' ;;
	preflight) words='--config --output --timeout' ;;
	*)
		words='--config --check-config --once --print --record --version'
		((COMP_CWORD > 1)) || words+=' keygen pubkey preflight'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _pointsman_agent pointsman-agent
