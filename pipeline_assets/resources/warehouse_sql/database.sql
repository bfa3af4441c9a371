-- The database. In production an administrator makes it (production.sql) and this finds it.
CREATE DATABASE IF NOT EXISTS ${DATABASE}
