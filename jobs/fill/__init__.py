"""The Parquet job: rows in, filled rows out, each exactly once."""
