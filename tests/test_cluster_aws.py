"""cluster.yaml on a simulated AWS: the account's stack, Ray's preparations, the machines."""

import re
import time

import pytest
import yaml

from mae_ablation.launch.cluster_file import template

pytestmark = pytest.mark.slow
REGION, ADDRESS = "us-west-2", "203.0.113.7/32"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """(EC2 client, the stack's outputs, Ray's provider, the config it would launch with)."""
    from moto import mock_aws

    with (
        pytest.MonkeyPatch.context() as patch,
        mock_aws(config={"iam": {"load_aws_managed_policies": True}}),
    ):
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes its key pair there
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "x")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setattr(time, "sleep", lambda seconds: None)
        import boto3

        ec2 = boto3.client("ec2", REGION)
        outputs = deploy_account(boto3.client("cloudformation", REGION))
        yield ec2, outputs, *prepare(ec2, outputs)


def deploy_account(cloudformation, name="mae-ablation", prefix="mae-ablation", **more):
    given = {"SshFrom": ADDRESS, **more}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=template("aws-account").replace("mae-ablation-", f"{prefix}-"),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def prepare(ec2, outputs):
    """What `ray up` does before it launches the head."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(template("aws"))
    config["provider"]["type"] = "aws"
    for node_type in config["available_node_types"].values():
        node_type["node_config"]["SecurityGroupIds"] = [outputs["SecurityGroup"]]
        # the simulation knows its own images only
        node_type["node_config"]["ImageId"] = ec2.describe_images()["Images"][0]["ImageId"]
    config = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(config))
    validate_config(config)
    config = AWSNodeProvider.bootstrap_config(config)
    return AWSNodeProvider(config["provider"], config["cluster_name"]), config


def launch(aws, name, kind):
    from ray.autoscaler import tags

    ec2, _, provider, config = aws
    provider.create_node(
        config["available_node_types"][name]["node_config"],
        {
            tags.TAG_RAY_NODE_KIND: kind,
            tags.TAG_RAY_USER_NODE_TYPE: name,
            tags.TAG_RAY_NODE_NAME: name,
            tags.TAG_RAY_NODE_STATUS: "up-to-date",
            tags.TAG_RAY_LAUNCH_CONFIG: "x",
        },
        1,
    )
    found = ec2.describe_instances(Filters=[{"Name": "tag:ray-user-node-type", "Values": [name]}])
    return found["Reservations"][0]["Instances"][0]


def test_the_head_is_on_demand_and_gpu_machines_are_spot(aws):
    head, gpu = launch(aws, "head", "head"), launch(aws, "gpu", "worker")
    assert head["InstanceType"] == "m6i.xlarge" and "InstanceLifecycle" not in head
    assert (gpu["InstanceType"], gpu["InstanceLifecycle"]) == ("g5.xlarge", "spot")
    for machine, role in ((head, "head"), (gpu, "worker")):
        assert machine["IamInstanceProfile"]["Arn"].endswith(f"/mae-ablation-{role}")
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [
            aws[1]["SecurityGroup"]
        ]
    types = aws[3]["available_node_types"]
    assert (types["head"]["resources"]["GPU"], types["gpu"]["resources"]["GPU"]) == (0, 1)
    assert types["gpu"]["resources"]["accelerator_type:A10G"] == 1


def test_only_ssh_from_one_address_and_the_group_itself_come_in(aws):
    ec2, outputs, _, _ = aws
    (group,) = ec2.describe_security_groups(GroupIds=[outputs["SecurityGroup"]])["SecurityGroups"]
    ssh, inside = sorted(group["IpPermissions"], key=lambda rule: rule["IpProtocol"], reverse=True)
    assert (ssh["IpProtocol"], ssh["FromPort"], ssh["ToPort"]) == ("tcp", 22, 22)
    assert [found["CidrIp"] for found in ssh["IpRanges"]] == [ADDRESS]
    assert inside["IpProtocol"] == "-1" and not inside["IpRanges"] and not inside["Ipv6Ranges"]
    assert [pair["GroupId"] for pair in inside["UserIdGroupPairs"]] == [group["GroupId"]]
    names = [found["GroupName"] for found in ec2.describe_security_groups()["SecurityGroups"]]
    assert not [name for name in names if name.startswith("ray-autoscaler")]


def test_the_bucket_is_closed_and_kept_and_each_role_has_it():
    resources = yaml.safe_load(template("aws-account"))["Resources"]
    bucket = resources["Bucket"]
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    for role in ("HeadRole", "WorkerRole"):
        assert {"Ref": "BucketPolicy"} in resources[role]["Properties"]["ManagedPolicyArns"]


def test_a_bucket_of_images_is_read_and_never_written(aws):
    import boto3

    iam = boto3.client("iam")

    def policies(role):
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        for arn in (each["PolicyArn"] for each in attached if "/data-" in each["PolicyArn"]):
            document = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
            yield from document["Document"]["Statement"]

    without = {role["RoleName"] for role in iam.list_roles()["Roles"]}
    assert not [each for role in without for each in policies(role)]
    deploy_account(
        boto3.client("cloudformation", REGION), "data", "mae-images", DataBucket="our-images"
    )
    roles = {role["RoleName"] for role in iam.list_roles()["Roles"]} - without
    for role in roles:
        statements = [each for each in policies(role) if "our-images" in str(each)]
        assert [(each["Action"], each["Resource"]) for each in statements] == [
            (["s3:ListBucket", "s3:GetBucketLocation"], "arn:aws:s3:::our-images"),
            ("s3:GetObject", "arn:aws:s3:::our-images/*"),
        ]
    assert len(roles) == 2


@pytest.mark.parametrize(
    ("address", "accepted"),
    [(ADDRESS, True), ("203.0.113.0/24", True), ("0.0.0.0/0", False), ("YOUR.ADDRESS/32", False)],
)
def test_the_stack_refuses_an_address_that_is_not_filled_in(address, accepted):
    parameter = yaml.safe_load(template("aws-account"))["Parameters"]["SshFrom"]
    assert "Default" not in parameter and "fill in SshFrom" in parameter["ConstraintDescription"]
    assert bool(re.fullmatch(parameter["AllowedPattern"], address)) is accepted


def test_the_stack_is_valid_cloudformation():
    from cfnlint.api import lint  # comes with moto[server]

    assert lint(template("aws-account"), regions=[REGION]) == []
