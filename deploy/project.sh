# shellcheck shell=bash
# What the scripts of this folder share: settings, names, and how a command is printed, asked and run.
# Sourced after `set -euo pipefail`. No feature of bash that version 3.2 (macOS) lacks.

head=$(cd "$(dirname "$0")" && pwd)/${0##*/}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# Secrets stay variables of this shell: no child sees them in its environment or arguments unless a line here hands one on.
export -n SUPABASE_SERVICE_ROLE_KEY WAPI_WEBHOOK_SECRETS EVENT_LOG_KEY EVENT_RELAY_URL DATABASE_URL
export -n ALERT_EMAIL_URL OPERATOR_ALERT_URLS OPERATOR_WEBHOOK_SECRET

# shellcheck disable=SC2034 # read by those who source this
made_by=line-recovery exclusion=wapi-webhook-requests # the label by which cleanup knows what is ours; the log's filter
dry_run=${dry_run:-}

script=${0##*/}
stop() { printf '%s: %s\n' "$script" "$1" >&2; exit 2; }
note() { printf '# %s\n' "$1"; }

# The head of each script is what its --help says.
for argument; do
  case $argument in
    --help | -h)
      # Not $0: the folder is the project's now.
      sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//p;}' "$head"
      exit 0
      ;;
  esac
done

# shellcheck source-path=SCRIPTDIR source=env.sh
source deploy/env.sh

# shellcheck source-path=SCRIPTDIR source=nonsense.sh
source deploy/nonsense.sh

# "3 of 8: accounts (some 10 s)". A script that is a step of another one counts none of its own.
steps=0 at=0
heading() {
  at=$((at + 1))
  if [ -n "${STEP_OF_ANOTHER:-}" ]; then
    note "$1"
  elif [ "$steps" -gt 0 ]; then
    printf '\n# %s of %s: %s\n' "$at" "$steps" "$1"
  fi
}

# The last word of a script.
finished() { if [ -n "$dry_run" ]; then note "a dry run: Google was asked nothing, and nothing was changed"; else note "$1"; fi; }

printed() { printf '%s %s\n' "$1" "$(shift; printf '%q ' "$@")"; }

# Changes something: printed, then run. A dry run ends at printing.
run() {
  printed + "$@"
  [ -n "$dry_run" ] || "$@"
}

# The same for a command that gets a secret: through its standard input, so that no argument shows it.
run_with_input() {
  local input=$1
  shift
  printed + "$@"
  [ -n "$dry_run" ] || printf '%s' "$input" | "$@"
}

# Asks something: printed on the other stream, because the answer is what the caller takes. The first word is what a
# dry run takes for the answer.
asked() {
  local example=$1
  shift
  printed '?' "$@" >&2
  if [ -z "$dry_run" ]; then
    "$@"
  else
    [ -z "$example" ] || note "  made up for this dry run: ${example//$'\n'/ }" >&2
    printf '%s\n' "$example"
  fi
}

# For what Google knows only some seconds after it was made: a new account, a right just granted.
patiently() {
  local tries=1
  until "$@"; do
    [ "$tries" -lt 6 ] || stop "given up after $tries tries"
    tries=$((tries + 1))
    note "not yet; try $tries in 10 s" >&2
    sleep 10
  done
}

run_patiently() {
  printed + "$@"
  [ -n "$dry_run" ] || patiently "$@"
}

# No pipe into grep -q: it leaves at the first match, and what still writes to it fails the pipe.
has_line() { case $'\n'$1$'\n' in *$'\n'"$2"$'\n'*) ;; *) return 1 ;; esac; }

meaning_of() {
  case $1 in
    PROJECT) echo "the id of the Google Cloud project" ;;
    REGION) echo "of Cloud Run and the Scheduler, for example southamerica-east1" ;;
    SUPABASE_URL) echo "https://<project>.supabase.co" ;;
    DATABASE_URL) echo "of Supabase's session pooler: postgresql://postgres.<ref>:<password>@aws-….pooler.supabase.com:5432/postgres" ;;
    RELEASE) echo "it names the revisions of this release" ;;
    ALERT_EMAIL) echo "who is told" ;;
    SUPABASE_SERVICE_ROLE_KEY) echo "from Supabase: Project Settings, API keys" ;;
  esac
}

need() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || stop "$name is missing ($(meaning_of "$name"))"
  done
}

need_gcloud() {
  [ -n "$dry_run" ] || command -v gcloud >/dev/null || stop "gcloud is missing: install the Google Cloud CLI"
}

account() { printf '%s@%s.iam.gserviceaccount.com' "$1" "$PROJECT"; }
secret_named() { printf '%s' "$1" | tr 'A-Z_' 'a-z-'; }

# The secrets of a service, by the variables that hold them.
secrets_of() {
  case $1 in
    follow-up-check)
      echo SUPABASE_SERVICE_ROLE_KEY WAPI_WEBHOOK_SECRETS EVENT_RELAY_URL ALERT_EMAIL_URL OPERATOR_ALERT_URLS OPERATOR_WEBHOOK_SECRET
      ;;
    wapi-webhook) echo SUPABASE_SERVICE_ROLE_KEY WAPI_WEBHOOK_SECRETS EVENT_LOG_KEY EVENT_RELAY_URL ;;
    deployer) echo DATABASE_URL ;;
  esac
}

# Both services in the order in which they are deployed and promoted: the webhook serves a new secret before the sweep
# learns it and registers it at the provider.
# shellcheck disable=SC2034  # whoever reads this file uses it
services_in_order="wapi-webhook follow-up-check"

# The settings that a service takes from whoever deploys. What is not set here stays as it was deployed before;
# what is set and empty goes back to its default.
settings_of() {
  echo SUPABASE_URL WAPI_BASE_URL WAPI_SEND_URL WAPI_SEND_LOOKS EVENT_RELAY_CONNECTIONS LOOK_TIMEOUT_SECONDS RESTART_VERIFY_SECONDS
  case $1 in
    follow-up-check)
      echo CHECK_INTERVAL_SECONDS RECOVERY_COOLDOWN_SECONDS LOOK_CONCURRENCY RESTART_CONCURRENCY
      echo SWEEP_BUDGET_SECONDS DEGRADED_GRACE_SECONDS GHOST_CONFIRM_SECONDS SWEEP_FANOUT ALERT_INSTANCE_ID
      echo WEBHOOK_URL WEBHOOK_TAKE_OVER TELL_VENUES_SUBSCRIPTION
      ;;
    wapi-webhook) echo CONFIRM_DISCONNECT_EVENTS WAPI_WEBHOOK_LINE_KEYS_ONLY ;;
  esac
}

existing_secrets() {
  local example="supabase-service-role-key wapi-webhook-secrets event-log-key"
  example="$example${EVENT_RELAY_URL:+ event-relay-url}${DATABASE_URL:+ database-url}${ALERT_EMAIL_URL:+ alert-email-url}"
  example="$example${OPERATOR_ALERT_URLS:+ operator-alert-urls}${OPERATOR_WEBHOOK_SECRET:+ operator-webhook-secret}"
  asked "${example// /$'\n'}" gcloud secrets list --format='value(name.basename())' --project="$PROJECT"
}

# The versions that can be read, newest first.
secret_versions() {
  asked 1 gcloud secrets versions list "$1" --filter=state:ENABLED --sort-by='~createTime' \
    --format='value(name.basename())' --project="$PROJECT"
}

existing_services() {
  asked $'follow-up-check\nwapi-webhook' gcloud run services list --format='value(metadata.name)' \
    --region="$REGION" --project="$PROJECT"
}

service_url() {
  asked "https://$1.example.run.app" gcloud run services describe "$1" --format='value(status.url)' \
    --region="$REGION" --project="$PROJECT"
}

# One line for each revision that is tagged or serves: revision,percent,tag,url.
traffic_of() {
  local example="$1-serving,100,, $1-before,,previous,https://previous---$1.example.run.app"
  example="$example $1-${RELEASE:-r0},,candidate,https://candidate---$1.example.run.app"
  asked "${example// /$'\n'}" gcloud run services describe "$1" --flatten='status.traffic[]' \
    --format='csv[no-heading](status.traffic.revisionName,status.traffic.percent,status.traffic.tag,status.traffic.url)' \
    --region="$REGION" --project="$PROJECT"
}

serving() { printf '%s\n' "$1" | awk -F, '$2 > most { most = $2; revision = $1 } END { print revision }'; }
tagged() { printf '%s\n' "$1" | awk -F, -v tag="$2" '$3 == tag { print $1 }'; }
url_of_tag() { printf '%s\n' "$1" | awk -F, -v tag="$2" '$3 == tag { print $4 }'; }
