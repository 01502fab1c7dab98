from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drumline", "0007_task_results"),
    ]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="reserved",
            field=models.JSONField(null=True, default=list),
        ),
    ]
