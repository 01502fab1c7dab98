from typing import Any

from django.db import migrations, models


def trust_existing(apps: Any, _schema_editor: Any) -> None:
    """Leave the accounts that exist as they are: they have had their welcome e-mail before addresses were proved."""
    apps.get_model("users", "User").objects.update(email_verified_at=models.F("created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0002_weekly_digest"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="email_verified_at",
            field=models.DateTimeField(blank=True, help_text="When the address was proved.", null=True),
        ),
        migrations.RunPython(trust_existing, migrations.RunPython.noop),
    ]
