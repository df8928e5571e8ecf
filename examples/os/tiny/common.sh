# Shared by the scripts of this OS definition; sourced, not run.
#
# The guest boots from a kernel of the node and needs nothing on its disk. What is installed is a
# label in the first sector of the first disk, in lines of text:
#
#   tiny-guest-disk 1
#   name=NAME
#   variant=VARIANT
#   interval=SECONDS
#   greeting=TEXT
#
# From the second MiB on the guest keeps its heartbeats, in a ring of 1024 sectors.

SECTOR=512
RING_START=2048
RING_SECTORS=1024

fail() {
  echo "$*" >&2
  exit 1
}

no_arguments() { # no_arguments SCRIPT USAGE [ARGUMENT...]
  script=$1 usage=$2
  shift 2
  case ${1-} in
    '') return ;;
    -h | --help) echo "usage: $script $usage"; exit 0 ;;
    *) echo "$script takes no arguments" >&2; exit 2 ;;
  esac
}

parameters_problem() { # prints what is wrong with the parameters; nothing if they are well
  case ${OSP_INTERVAL-} in
    '') ;;
    *[!0-9]* | ?????*) echo "interval must be a whole number of seconds from 1 to 3600, not '$OSP_INTERVAL'" ;;
    *) if [ "$OSP_INTERVAL" -lt 1 ] || [ "$OSP_INTERVAL" -gt 3600 ]; then
      echo "interval must lie between 1 and 3600 seconds, not $OSP_INTERVAL"
    fi ;;
  esac
  case ${OSP_GREETING-} in
    *'
'*) echo "greeting must be a single line" ;;
  esac
  if [ "$(printf %s "${OSP_GREETING-}" | wc -c)" -gt 100 ]; then
    echo "greeting must not be longer than 100 bytes"
  fi
}

write_label() { # write_label DISK NAME VARIANT INTERVAL GREETING
  printf 'tiny-guest-disk 1\nname=%s\nvariant=%s\ninterval=%s\ngreeting=%s\n' "$2" "$3" "$4" "$5" |
    dd of="$1" bs=$SECTOR count=1 conv=sync,notrunc,fsync iflag=fullblock status=none ||
    fail "the label cannot be written to $1"
}

label_line() { # label_line DISK KEY: the value in the label
  dd if="$1" bs=$SECTOR count=1 status=none | tr -d '\000' | sed -n "s/^$2=//p"
}
