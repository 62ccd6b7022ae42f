# shellcheck shell=bash
# Refuses nonsense before the first command, all of it at once. Sourced by project.sh. No value that may be a secret is
# shown.

wrong=()
complain() { # each thing once, however many read the setting
  local said
  for said in ${wrong[@]+"${wrong[@]}"}; do [ "$said" != "$1" ] || return 0; done
  wrong[${#wrong[@]}]=$1
}
warn() { printf '%s: warning: %s\n' "$script" "$1" >&2; }

# An address without scheme, user, port, path and query.
host_of() {
  local host=${1#*://}
  host=${host%%[/?#]*}
  host=${host##*@}
  case $host in
    '['*) printf '%s' "${host%%]*}]" ;;
    *) printf '%s' "${host%%:*}" ;;
  esac
}

is_of_this_machine() {
  case $(host_of "$1") in
    localhost | *.localhost | 127.* | 0.0.0.0 | '[::1]' | '[::]' | host.docker.internal) ;;
    *) return 1 ;;
  esac
}

check_address() { # name
  local value=${!1}
  case $value in
    *[[:space:]]*) complain "$1 holds a space" ;;
    http*://?*) ! is_of_this_machine "$value" || complain "$1 points to this machine (loopback): Google cannot reach it" ;;
  esac
  case $value in
    *[[:space:]]* | https://?*) ;;
    http://*) complain "$1 must begin with https://, not http://" ;;
    *) complain "$1 must be an address that begins with https://" ;;
  esac
}

check_supabase() {
  check_address SUPABASE_URL
  case $SUPABASE_URL in
    https://*/?*) complain "SUPABASE_URL must end after the host: https://<ref>.supabase.co" ;;
  esac
  [[ ${SUPABASE_URL%/} =~ ^https://[a-z]{20}\.supabase\.co$ ]] || [ "${#wrong[@]}" -gt 0 ] ||
    warn "SUPABASE_URL does not look like https://<20 letters>.supabase.co; right for a domain or server of your own"
}

check_service_key() {
  local key=$SUPABASE_SERVICE_ROLE_KEY claims
  case $key in
    sb_secret_?*) return ;;
    sb_publishable_*) complain "SUPABASE_SERVICE_ROLE_KEY is the publishable key; the secret one is needed" && return ;;
  esac
  if ! [[ $key =~ ^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$ ]]; then
    complain "SUPABASE_SERVICE_ROLE_KEY must begin with sb_secret_, or be the service role's JWT (three parts with dots)"
    return
  fi
  claims=${key#*.}
  claims=$(printf '%s===' "${claims%%.*}" | tr '_-' '/+' | base64 --decode 2>/dev/null | tr -d '[:space:]\0' || true)
  case $claims in
    *'"role":"service_role"'*) ;;
    *) complain "SUPABASE_SERVICE_ROLE_KEY is a JWT, but not the service role's" ;;
  esac
}

check_database() {
  local rest=${DATABASE_URL##*@} # the last @ ends the password, whatever it holds
  case $DATABASE_URL in
    postgres://*@* | postgresql://*@*) ;;
    *) complain "DATABASE_URL must look like postgresql://user:password@host:5432/postgres" && return ;;
  esac
  case ${rest%%[/?]*} in
    *:6543) complain "DATABASE_URL has port 6543, the transaction pooler, which keeps no session settings: take the session pooler (port 5432)" ;;
    db.*.supabase.co*) warn "DATABASE_URL is a direct address, which has no IPv4: Cloud Build cannot reach it; take the session pooler's" ;;
  esac
  ! is_of_this_machine "any://$rest" || complain "DATABASE_URL points to this machine (loopback): the pipeline cannot reach it"
}

check_webhook_secrets() {
  local secret rest=$WAPI_WEBHOOK_SECRETS,
  while [ -n "$rest" ]; do
    secret=${rest%%,*}
    rest=${rest#*,}
    [ "${#secret}" -ge 16 ] || complain "each secret of WAPI_WEBHOOK_SECRETS must have at least 16 characters"
  done
}

check_number() { # name, most
  case ${!1} in
    *[!0-9]*) complain "$1 must be a number from 0 to $2" ;;
    *) [ "${!1}" -le "$2" ] || complain "$1 must be a number from 0 to $2" ;;
  esac
}

is_email() { [[ $1 =~ ^[^@[:space:]:,\;]+@[^@[:space:]:,\;]+\.[A-Za-z0-9-]+$ ]]; }

check_region() {
  has_line "$(cat deploy/regions)" "$REGION" && return
  case $REGION in
    *-*[0-9]-[a-z]) complain "REGION '$REGION' is a zone; the region is ${REGION%-?}" ;;
    *) complain "REGION '$REGION' is no region of Cloud Run, such as southamerica-east1 (deploy/regions lists them)" ;;
  esac
}

check_setting() { # name of one that is there
  case $1 in
    PROJECT)
      [[ $PROJECT =~ ^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] ||
        complain "PROJECT '$PROJECT' is no project id: 6 to 30 small letters, digits and hyphens (neither the name nor the number)"
      ;;
    REGION) check_region ;;
    SUPABASE_URL) check_supabase ;;
    SUPABASE_SERVICE_ROLE_KEY) check_service_key ;;
    WAPI_BASE_URL | WAPI_SEND_URL | EVENT_RELAY_URL | WEBHOOK_URL) check_address "$1" ;;
    DATABASE_URL) check_database ;;
    WAPI_WEBHOOK_SECRETS) check_webhook_secrets ;;
    EVENT_LOG_KEY)
      [[ $EVENT_LOG_KEY =~ ^[A-Za-z0-9_-]{43}=$ ]] ||
        complain "EVENT_LOG_KEY must be a Fernet key: 32 bytes in URL-safe base64, 44 characters"
      ;;
    SWEEP_FANOUT) check_number SWEEP_FANOUT 50 ;;
    WEBHOOK_MAX_INSTANCES) check_number WEBHOOK_MAX_INSTANCES 1000 ;;
    RELEASE)
      [[ $RELEASE =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
        complain "RELEASE must be a letter, then letters, digits and hyphens, 40 at most, all small"
      ;;
    ALERT_EMAIL) is_email "$ALERT_EMAIL" || complain "ALERT_EMAIL is no e-mail address" ;;
    OPERATOR)
      case ${!1} in
        user:* | group:* | serviceAccount:*) is_email "${!1#*:}" || complain "OPERATOR names no e-mail address" ;;
        *) complain "OPERATOR must begin with user:, group: or serviceAccount:" ;;
      esac
      ;;
  esac
}

# What a deployment reads, beside where to.
deployed_settings() {
  echo SUPABASE_URL WAPI_BASE_URL WAPI_SEND_URL EVENT_RELAY_URL DATABASE_URL SWEEP_FANOUT WEBHOOK_MAX_INSTANCES RELEASE
}

# The arguments are the settings that must be there; after `--`, those that may be.
check_settings() {
  local name must=yes
  for name in "$@"; do
    if [ "$name" = -- ]; then
      must=
    elif [ -n "${!name:-}" ]; then
      check_setting "$name"
    elif [ -n "$must" ]; then
      complain "$name is missing ($(meaning_of "$name"))"
    fi
  done
}

refuse_what_is_wrong() {
  local why
  [ "${#wrong[@]}" -gt 0 ] || return 0
  for why in "${wrong[@]}"; do printf '%s: %s\n' "$script" "$why" >&2; done
  exit 2
}

refuse_nonsense() {
  check_settings "$@"
  refuse_what_is_wrong
}
