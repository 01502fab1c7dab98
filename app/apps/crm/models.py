"""What the CRM knows of us."""

from django.conf import settings
from django.db import models


class Contact(models.Model):
    """A user's copy in the CRM."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="crm_contact")
    # The CRM's own id.
    external_id = models.CharField(max_length=100, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True)
    # Why the CRM refused it; it is not asked again until a person has seen to it.
    refusal = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"{self.user_id} in the CRM"
