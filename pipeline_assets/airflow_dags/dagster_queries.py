"""The texts of Dagster's GraphQL queries and mutations that dagster_api.py sends."""

FIND_RUNS = """
query FindRuns($filter: RunsFilter!, $limit: Int!) {
  runsOrError(filter: $filter, limit: $limit) {
    __typename
    ... on Runs { results {
      runId rootRunId status stepKeysToExecute tags { key value } stepStats { stepKey status }
    } }
    ... on Error { message }
  }
}"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}"""
REEXECUTE = """
mutation Reexecute($params: ReexecutionParams!) {
  launchRunReexecution(reexecutionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on Error { message }
  }
}"""
TERMINATE = """
mutation Terminate($run: String!) {
  terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
    __typename
    ... on TerminateRunFailure { message }
    ... on Error { message }
  }
}"""
EVENTS_OF = """
query Events($run: ID!, $after: String, $limit: Int!) {
  runOrError(runId: $run) {
    __typename
    ... on Run { eventConnection(afterCursor: $after, limit: $limit) {
      cursor hasMore
      events {
        __typename
        ... on MessageEvent { message }
        ... on ExecutionStepFailureEvent { stepKey error { message cause { message } } }
      }
    } }
    ... on Error { message }
  }
}"""
LAUNCH_BACKFILL = """
mutation LaunchBackfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""
REEXECUTE_BACKFILL = """
mutation ReexecuteBackfill($params: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""
BACKFILL_FIELDS = """
      id status numPartitions tags { key value } error { message }
      partitionStatusCounts { runStatus count }"""
FIND_BACKFILLS = f"""
query FindBackfills($limit: Int!) {{
  partitionBackfillsOrError(limit: $limit) {{
    __typename
    ... on PartitionBackfills {{ results {{ {BACKFILL_FIELDS} }} }}
    ... on Error {{ message }}
  }}
}}"""
CANCEL_BACKFILL = """
mutation CancelBackfill($backfill: String!) {
  cancelPartitionBackfill(backfillId: $backfill) { __typename ... on Error { message } }
}"""
