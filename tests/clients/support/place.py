"""Where most tests take place: a vault, a caller who makes keys in it, an identity that wraps with them."""

from .cloud import CRYPTO_OFFICER, ENCRYPTION_USER


class Place:
    """A group with a vault in which the caller is Crypto Officer, and an identity that may wrap with its keys."""

    def __init__(self, cloud, **vault):
        self.cloud = cloud
        self.group = cloud.group().name
        self.vault = cloud.vault(self.group, **vault)
        self.uri = self.vault.properties.vault_uri
        self.identity = cloud.identity(self.group)
        cloud.grant(self.vault.id, cloud.me.object_id, CRYPTO_OFFICER)
        self.grant = cloud.grant(self.vault.id, self.identity.principal_id, ENCRYPTION_USER)
        self.keys = cloud.keys(self.uri)
