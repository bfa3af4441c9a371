#!/bin/sh
# Copies Dagster's SQLite storage, the lake and the gateway's journals while the platform runs.
#
#     backup.sh lake:my-candles backup:my-candles /backups/20261129
#
# The first two are buckets as rclone names them; the third is a new directory. docs/backup.md says why the steps
# have this order, and how to restore. PIPELINE_DATA_DIR is the platform's. DAGSTER=postgresql leaves Dagster's
# storage to a pg_dump that was made before; JOURNALS=none asks no gateway.
#
# The directory has its name once all steps have succeeded, and DIRECTORY.unfinished until then. Meanwhile the
# bucket of the copy has an object `backup-unfinished`: its documents may name objects that are not copied yet.
set -eu

if [ $# -ne 3 ]; then
    echo "Usage: backup.sh LAKE COPY DIRECTORY, such as: backup.sh lake:my-candles backup:my-candles /backups/20261129" >&2
    exit 2
fi
lake=$1 copy=$2 directory=${3%/}
unfinished=$directory.unfinished mark=${2%/}/backup-unfinished marked=
if [ -e "$directory" ]; then
    echo "$directory is there already: name a new directory." >&2
    exit 2
fi
if [ -e "$unfinished" ]; then
    echo "$unfinished is there: a backup is under way, or was killed. Remove it if none is." >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
program=${PIPELINE_ASSETS:-pipeline-assets}
# The program takes every variable that starts with PIPELINE_ for a setting, and knows none of this name.
unset PIPELINE_ASSETS

copy_databases() {
    # Each file as of one moment, with what its -wal file holds. A run that housekeeping removes meanwhile is left out.
    mkdir -p "$unfinished/dagster/$1"
    for file in $2; do
        [ -e "$dagster/$1/$file" ] || continue
        (cd "$unfinished/dagster/$1" && sqlite3 -cmd ".timeout 60000" "$dagster/$1/$file" ".backup $file" >&2)
    done
}

discard() {
    # Called at every exit. The parts are of different moments, so half of them restores nothing.
    status=$?
    [ "$status" -eq 0 ] && return
    rm -rf "$unfinished"
    echo "The backup failed, and its directory was removed. Repeat the command: objects that were copied stay." >&2
    [ -z "$marked" ] || echo "Restore nothing from $copy before a backup succeeds: until then it has $mark." >&2
}

copy_lake() {
    # `copy`, never `sync`, which would remove from the copy what was merged into another object meanwhile.
    # --checksum compares MD5 sums instead of two clocks; --metadata keeps each object's SHA-256.
    rclone copy --checksum --metadata --retries 1 --filter-from "$here/$1" "$lake" "$copy"
}

if [ "${DAGSTER:-sqlite}" = sqlite ]; then
    # Before the new directory is made: the backup can then be repeated with the same name. With PostgreSQL this
    # machine may have no such directory.
    dagster=$(cd "${PIPELINE_DATA_DIR:-.pipeline}/dagster" && pwd)
fi
mkdir -p "$(dirname "$directory")"
mkdir "$unfinished"
trap discard EXIT
trap 'exit 130' INT
trap 'exit 143' HUP TERM
if [ "${DAGSTER:-sqlite}" = sqlite ]; then
    echo "Copying Dagster's storage: sensors, runs, events"
    copy_databases schedules schedules.db
    copy_databases history runs.db
    copy_databases history/runs index.db
    copy_databases history/runs "$(cd "$dagster/history/runs" && ls | grep '^[0-9a-f-]*\.db$' || true)"
fi
marked=yes
date -u | rclone rcat "$mark"
echo "Copying the lake's documents"
copy_lake documents.filter
echo "Copying the lake's objects"
# A finalize run may remove an object that was listed and is not copied yet. Its replacement was stored before.
copy_lake objects.filter || echo "Some objects went away meanwhile; the second pass has what replaced them." >&2
echo "Copying the lake's objects that changed meanwhile"
copy_lake objects.filter
if [ "${JOURNALS:-sqlite}" = sqlite ]; then
    echo "Copying the journals"
    "$program" gateway backup "$unfinished/journal.sqlite"
fi
rclone deletefile "$mark"
mv "$unfinished" "$directory"
echo "Done: $copy and $directory"
