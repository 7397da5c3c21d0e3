//! SQLite and readers of columnar files.

use crate::{must, shell};
use tarn_tests::behaviours;
use tarn_tests::subject::Subject;
use tarn_tests::suite::{Behaviour, On};
use tarn_tests::{paths, run};

pub(crate) const ALL: &[Behaviour] = behaviours!(
    On::EveryFileSystem,
    sqlite_with_a_rollback_journal_is_sound,
    sqlite_with_a_write_ahead_log_is_sound,
    duckdb_and_pyarrow_read_and_write_parquet,
);

fn sqlite(subject: &Subject<'_>, journal: &str) {
    let script = format!(
        "sqlite3 data.db 'PRAGMA journal_mode={journal}; CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);'
         for round in $(seq 1 20); do
             sqlite3 data.db \"
                 BEGIN;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                 INSERT INTO t(text) SELECT hex(randomblob(50)) || i FROM n;
                 COMMIT;
                 UPDATE t SET text = text || '-$round' WHERE id % 7 = $round % 7;
                 DELETE FROM t WHERE id % 97 = $round;\"
         done
         sqlite3 data.db 'VACUUM; CREATE INDEX i ON t(text);'"
    );
    shell(subject.root(), &script);
    let check = "sqlite3 data.db 'PRAGMA integrity_check; SELECT count(*), sum(length(text)) FROM t;'";
    let before = shell(subject.root(), check);
    assert!(before.starts_with("ok\n"), "{before}");
    subject.remount().unwrap();
    assert_eq!(shell(subject.root(), check), before);
}

fn sqlite_with_a_rollback_journal_is_sound(subject: &Subject<'_>) {
    sqlite(subject, "DELETE");
}

fn sqlite_with_a_write_ahead_log_is_sound(subject: &Subject<'_>) {
    sqlite(subject, "WAL");
}

fn duckdb_and_pyarrow_read_and_write_parquet(subject: &Subject<'_>) {
    let python = |script: &str| {
        let python = paths::tool("venv/bin/python").unwrap();
        must(
            run::command(python)
                .args(["-c", script])
                .current_dir(subject.root())
                .env("HOME", subject.scratch()),
        )
    };
    python(
        "import pyarrow as pa, pyarrow.parquet as pq, duckdb
n = 300_000
table = pa.table({'id': range(n), 'half': [i / 2 for i in range(n)], 'text': [f'row {i % 1000}' for i in range(n)]})
pq.write_table(table, 'arrow.parquet', row_group_size=50_000)
duckdb.sql(\"COPY (SELECT id, half, text FROM 'arrow.parquet' WHERE id % 2 = 0) TO 'duck.parquet' (FORMAT parquet)\")
database = duckdb.connect('duck.db')
database.sql(\"CREATE TABLE t AS SELECT * FROM 'duck.parquet'\")
database.close()",
    );
    subject.remount().unwrap();
    let printed = python(
        "import pyarrow.parquet as pq, duckdb
print(duckdb.sql(\"SELECT count(*), sum(id), count(DISTINCT text) FROM 'arrow.parquet'\").fetchall()[0])
print(pq.read_table('duck.parquet', columns=['half']).num_rows)
print(duckdb.connect('duck.db', read_only=True).sql('SELECT sum(half) FROM t').fetchall()[0])",
    );
    assert_eq!(printed, "(300000, 44999850000, 1000)\n150000\n(11249925000.0,)\n");
}
