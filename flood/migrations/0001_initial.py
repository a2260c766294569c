"""The tables of flood 0.1."""


def up(migrator, db):
    for statement in STATEMENTS:
        db.execute_sql(statement)


# Times are ISO 8601 in UTC with microseconds, of fixed width, so that text order is time order.
# spool_path is relative to the server directory, and a blob only where the name is no UTF-8.
STATEMENTS = (
    """
    CREATE TABLE file_records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        profile TEXT NOT NULL,
        bucket TEXT NOT NULL,
        filepath TEXT NOT NULL,
        file_creation_date TEXT NOT NULL,
        current_state TEXT NOT NULL CHECK (current_state IN
            ('incoming_tmp', 'incoming', 'processing', 'completed', 'failed')),
        last_updated TEXT NOT NULL,
        upload_outcome TEXT CHECK (upload_outcome IN ('success', 'failure')),
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        spool_path TEXT NOT NULL,
        retry_count INTEGER NOT NULL DEFAULT 0,
        next_attempt_at TEXT,
        claim_number INTEGER NOT NULL DEFAULT 0,
        owner TEXT,
        claimed_at TEXT,
        claim_size INTEGER NOT NULL DEFAULT 0,
        alone INTEGER NOT NULL DEFAULT 0,
        multipart_upload_id TEXT,
        etag TEXT,
        version_id TEXT,
        checksum TEXT,
        changed_ns INTEGER,
        error_code TEXT,
        error_message TEXT,
        bytes_sent INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL,
        completed_at TEXT
    )
    """,
    """
    CREATE UNIQUE INDEX file_records_one_in_processing
        ON file_records (profile, bucket, filepath) WHERE current_state = 'processing'
    """,
    """
    CREATE INDEX file_records_due
        ON file_records (profile, bucket, next_attempt_at, id)
        WHERE current_state = 'processing' AND owner IS NULL
    """,
    """
    CREATE INDEX file_records_claimed
        ON file_records (owner, claimed_at) WHERE current_state = 'processing' AND owner IS NOT NULL
    """,
    """
    CREATE INDEX file_records_arriving
        ON file_records (inode) WHERE current_state IN ('incoming_tmp', 'incoming')
    """,
    "CREATE INDEX file_records_key ON file_records (profile, bucket, filepath, id)",
    "CREATE INDEX file_records_place ON file_records (spool_path)",
    """
    CREATE INDEX file_records_multipart
        ON file_records (id) WHERE multipart_upload_id IS NOT NULL
    """,
    """
    CREATE TABLE retry_attempts (
        id INTEGER PRIMARY KEY,
        record_id INTEGER NOT NULL REFERENCES file_records (id),
        retry_number INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT NOT NULL,
        outcome TEXT NOT NULL CHECK (outcome IN ('success', 'failure')),
        kind TEXT CHECK (kind IN ('transient', 'permanent', 'lost', 'interrupted')),
        error_code TEXT,
        error_message TEXT,
        delay_seconds REAL,
        next_attempt_at TEXT,
        worker TEXT
    )
    """,
    "CREATE INDEX retry_attempts_record ON retry_attempts (record_id, id)",
    """
    CREATE TABLE spool (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        spool_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        last_swept_at TEXT
    )
    """,
)
