"""Starting, asking and steering orchestration instances. Knows stores, but no engine and no framework."""

from durable_ext.client.links import ManagementLinks
from durable_ext.client.operations import InstanceOperations, KnownFunctions
from durable_ext.client.orchestration import OrchestrationClient
from durable_ext.client.sync import SyncOrchestrationClient

__all__ = ["OrchestrationClient", "SyncOrchestrationClient", "InstanceOperations", "KnownFunctions", "ManagementLinks"]
