from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("drumline", "0004_operate_flower"),
    ]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="process",
            field=models.CharField(db_default="", max_length=255),
        ),
    ]
