from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("drumline", "0003_missed_runs")]

    operations = [
        migrations.AlterModelOptions(
            name="worker",
            options={"permissions": (("operate_flower", "Can operate workers with Flower"),)},
        ),
    ]
