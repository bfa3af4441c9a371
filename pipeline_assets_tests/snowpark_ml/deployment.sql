SHOW DATABASES LIKE 'MARKET_DATA';
SHOW SCHEMAS LIKE 'FUTURES'
                IN DATABASE MARKET_DATA;
SELECT SYSTEM$ML_PLATFORM_CAPABILITIES() AS FEATURES;
SHOW MODELS LIKE 'CANDIDATE_MACD_CROSS' IN SCHEMA MARKET_DATA.FUTURES;
SHOW MODELS LIKE 'CANDIDATE_MACD_CROSS' IN SCHEMA MARKET_DATA.FUTURES;
CREATE SCOPED TEMPORARY STAGE MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE;
DESC ARTIFACT REPOSITORY snowflake.snowpark.pypi_shared_repository;
SELECT PACKAGE_NAME, VERSION
FROM information_schema.packages
WHERE (package_name = 'snowflake-ml-python')
AND language = 'python'
AND (runtime_version = '3.11'
    OR runtime_version is null);
PUT 'file://…/MANIFEST.yml' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/model.yaml' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/requirements.txt' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model/runtimes/cpu/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/conda.yml' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model/runtimes/cpu/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/requirements.txt' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/conda.yml' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/model.pkl' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/model/models/CANDIDATE_MACD_CROSS'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/requirements.txt' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/runtimes/python_runtime/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/conda.yml' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/runtimes/python_runtime/env'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
PUT 'file://…/predict_proba.py' '@MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model/functions'  parallel = 4 source_compression = 'AUTO_DETECT' auto_compress = False overwrite = False;
SHOW MODELS LIKE 'CANDIDATE_MACD_CROSS' IN SCHEMA MARKET_DATA.FUTURES;
CREATE MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS WITH VERSION V20261122_0123456789AB FROM @MARKET_DATA.FUTURES.SNOWPARK_TEMP_STAGE/model;
SHOW VERSIONS LIKE 'V20261122_0123456789AB' IN MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS;
SHOW FUNCTIONS IN MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS VERSION V20261122_0123456789AB;
ALTER MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS MODIFY VERSION V20261122_0123456789AB SET COMMENT=$$macd_cross 1-abcdef01, trained on 2026-10-23 to 2026-11-22, model 20261122-0123456789ab, SHA-256 0123$$;
SHOW VERSIONS LIKE 'V20261122_0123456789AB' IN MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS;
ALTER MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS MODIFY VERSION V20261122_0123456789AB SET METADATA=$${"metrics": {"net per candidate": 0.001}, "snowpark_ml_schema_version": "2024-01-01"}$$;
SHOW MODELS LIKE 'CANDIDATE_MACD_CROSS' IN SCHEMA MARKET_DATA.FUTURES;
SHOW VERSIONS LIKE 'V20261122_0123456789AB' IN MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS;
ALTER MODEL MARKET_DATA.FUTURES.CANDIDATE_MACD_CROSS SET DEFAULT_VERSION = V20261122_0123456789AB;
