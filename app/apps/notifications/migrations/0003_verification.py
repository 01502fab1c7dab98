from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0002_reminders_and_digests"),
    ]

    operations = [
        migrations.AlterField(
            model_name="email",
            name="kind",
            field=models.CharField(
                choices=[("welcome", "Welcome"), ("digest", "Digest"), ("verification", "Verification")], max_length=40
            ),
        ),
    ]
