"""The sales team's CRM: a service of somebody else, on the other side of a network."""

from django.apps import AppConfig


class CrmConfig(AppConfig):
    """Accounts are copied to the CRM."""

    name = "apps.crm"
    verbose_name = "CRM"
