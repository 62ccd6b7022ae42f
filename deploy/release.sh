# shellcheck shell=bash
# The arguments with which a service is deployed, whichever gcloud command does it. Sourced after project.sh, when
# refuse_nonsense has seen the settings.

fanout=${SWEEP_FANOUT:-0}
if [[ $fanout =~ ^[0-9]+$ ]]; then fanout=$((10#$fanout)); fi  # 08 is no octal number

# Sets `environment` to NAME=VALUE pairs, in a form that may hold commas.
read_environment() {
  local name
  environment="^@@^GOOGLE_CLOUD_PROJECT=$PROJECT@@LOG_EXECUTION_ID=false"
  for name in $(settings_of "$1"); do
    # A sweep asks for help at its own address, which is not known before there is a service.
    [ "$name $2" != "SWEEP_FANOUT first" ] || continue
    [ -z "${!name+set}" ] || environment="$environment@@$name=${!name}"
  done
  # Where the sweep has the provider post events. Later what was deployed stays, unless WEBHOOK_URL is set.
  if [ "$1 $2" = "follow-up-check first" ] && [ -z "${WEBHOOK_URL+set}" ]; then
    local webhook
    webhook=$(service_url wapi-webhook)
    environment="$environment@@WEBHOOK_URL=$webhook"
  fi
  if [ "$1 $2" = "follow-up-check later" ] && [ "$fanout" -gt 0 ]; then
    local url
    url=$(service_url follow-up-check)
    environment="$environment@@SWEEP_FANOUT_URL=$url"
  fi
}

# Sets `pinned` to NAME=secret:version pairs. Pinned, because a revision must mean the same when it is rolled back to.
read_secrets() {
  local name secret version existing
  existing=$(existing_secrets)
  pinned=
  for name in $(secrets_of "$1"); do
    secret=$(secret_named "$name")
    if has_line "$existing" "$secret"; then
      version=$(secret_versions "$secret")
      version=${version%%$'\n'*}
      [ -n "$version" ] || stop "the secret $secret has no version that is enabled"
      pinned="$pinned${pinned:+,}$name=$secret:$version"
    else
      case $name in
        SUPABASE_SERVICE_ROLE_KEY | WAPI_WEBHOOK_SECRETS) stop "the secret $secret is missing: run deploy/bootstrap" ;;
      esac
    fi
  done
}

# Sets `arguments` for a service; the second word is `first` when there is none of that name yet, else `later`.
read_arguments() {
  local most=
  read_environment "$1" "$2"
  read_secrets "$1"
  arguments=("$1" --source=. --region="$REGION" --project="$PROJECT"
    --service-account="$(account "$1")"
    --build-service-account="projects/$PROJECT/serviceAccounts/$(account deployer)"
    --cpu=1 --memory=512Mi --update-labels="made-by=$made_by"
    --update-env-vars="$environment" --set-secrets="$pinned")
  case $1 in
    follow-up-check)
      # Two sweeps may meet (a retry and the next one), each with its helpers; one request a machine.
      [ "$2" = later ] && [ -z "${SWEEP_FANOUT+set}" ] || most=$((2 * (1 + fanout)))
      arguments+=(--concurrency=1 --timeout=540s)
      ;;
    wapi-webhook)
      [ "$2" = later ] || most=20
      most=${WEBHOOK_MAX_INSTANCES:-$most}
      arguments+=(--concurrency=40 --timeout=60s)
      ;;
  esac
  [ -z "$most" ] || arguments+=(--max-instances="$most")
}
