# shellcheck shell=bash
# Takes from .env (ENV_FILE names another file) what the environment does not say. Sourced in the project's folder, after
# `stop`; the file is read by the same library as for doctor and report, and nothing in it is run.
env_file=${ENV_FILE:-.env}
if [ -n "${ENV_FILE:-}" ] && [ ! -e "$env_file" ]; then stop "ENV_FILE: $env_file does not exist"; fi
if [ -f "$env_file" ]; then
  [ -x .venv/bin/python ] || stop "$env_file is read by Python's dotenv: run 'make install' first, or set ENV_FILE=/dev/null"
  is_whole=
  while IFS= read -r -d '' pair; do
    name=${pair%%=*}
    if [ "$pair" = whole ]; then is_whole=yes; elif [ -z "${!name+set}" ]; then printf -v "$name" %s "${pair#*=}"; fi
  done < <(env -i .venv/bin/python -m ops.common.env_file "$env_file" && printf 'whole\0')
  [ -n "$is_whole" ] || stop "$env_file could not be read"
fi
