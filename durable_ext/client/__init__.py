"""Starting, asking and steering orchestration instances. Knows stores, but no engine and no framework."""

from durable_ext.client.links import ManagementLinks
from durable_ext.client.orchestration import OrchestrationClient
from durable_ext.client.sync import SyncOrchestrationClient
from durable_ext.client.verbs import InstanceVerbs, KnownFunctions

__all__ = ["OrchestrationClient", "SyncOrchestrationClient", "InstanceVerbs", "KnownFunctions", "ManagementLinks"]
