from django.db import migrations, models

from drumline.migrations._operations import AddFieldWithDefault


class Migration(migrations.Migration):
    dependencies = [
        ("drumline", "0004_operate_flower"),
    ]

    operations = [
        AddFieldWithDefault(
            model_name="worker",
            name="process",
            field=models.CharField(default="", max_length=255),
        ),
    ]
